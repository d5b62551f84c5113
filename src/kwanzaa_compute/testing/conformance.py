"""The suite that every driver passes, by writing one fixture.

    from kwanzaa_compute.testing.conformance import DriverConformance, Harness

    class TestMoonbase(DriverConformance):
        @pytest.fixture
        def harness(self):
            return Harness(info=..., driver=..., clock=..., job=...)

Each claimed feature is checked, and nothing may be there that is not claimed.
"""

# ruff: noqa: S101 -- a suite of tests

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import (
    Deadline,
    Driver,
    Feature,
    Job,
    LogsDriver,
    Phase,
    ProviderInfo,
    Sighting,
    SSHDriver,
)
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Offer

METHODS = ("offers", "launch", "inspect", "fleet", "terminate", "classify")
OPTIONAL = {"logs": Feature.LOGS, "ssh": Feature.SSH}
STRANGE_IDS = ("no-such-machine", "kwz-me-none-1", "../../etc", "a b;rm -rf /", "%00", "ü" * 40)
STRANGE_ERRORS: tuple[Exception, ...] = (
    Exception("something"),
    RuntimeError(),
    KeyError("id"),
    ValueError("<html>502 Bad Gateway</html>"),
    TypeError("'NoneType' object is not subscriptable"),
    AttributeError("no such attribute"),
    TimeoutError("read timed out"),
    ConnectionResetError(104, "Connection reset by peer"),
    ConnectionRefusedError(111, "Connection refused"),
    json.JSONDecodeError("Expecting value", "<html>", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    AssertionError("a bug"),
)
LOST_ANSWERS: tuple[Exception, ...] = (
    Exception("something"),
    TimeoutError("read timed out"),
    ConnectionResetError(104, "Connection reset by peer"),
    json.JSONDecodeError("Expecting value", "<html>", 0),
)


@dataclass(slots=True)
class Harness:
    """One driver under test, against a simulator or a cloud that costs nothing.

    `job(name, seconds)` makes a job that prints `hello` and then works for so long; `exiting`
    one that prints nothing and exits with a code at once (None: where that cannot be had). Times
    are by `clock`, real or virtual: nothing here waits longer than `patience_s`.
    """

    info: ProviderInfo
    driver: Driver
    clock: Clock
    job: Callable[[str, float], Job]
    exiting: Callable[[str, int], Job] | None = None
    preempt: Callable[[str], None] | None = None
    offer: Callable[[], Offer] | None = None
    """The offer to launch; default: the first that is for sale."""
    patience_s: float = 60.0
    pause_s: float = 0.05

    def launch(self, job: Job) -> str:
        """Launches a job on the offer that is to be used; skips where only a person can."""
        if Feature.UNATTENDED not in self.info.features:
            pytest.skip("here only a person starts a machine")
        offer = self.offer() if self.offer else next(iter(self.driver.offers()))
        return self.driver.launch(job, offer)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits until something holds; fails the test after `patience_s`."""
        last = self.clock.monotonic() + self.patience_s
        while not holds():
            if self.clock.monotonic() > last:
                pytest.fail(f"not within {self.patience_s:.0f} s: {what}")
            self.clock.sleep(self.pause_s)

    def sighting(self, machine_id: str) -> Sighting | None:
        """The machine as the fleet shows it now; None where it does not."""
        return next((s for s in self.driver.fleet() if s.machine_id == machine_id), None)

    def end(self, machine_id: str) -> None:
        """Terminates until the machine is neither in the fleet nor known by itself."""

        def gone() -> bool:
            self.driver.terminate(machine_id)
            absent = self.sighting(machine_id) is None
            return absent and self.driver.inspect(machine_id).phase is Phase.GONE

        self.until(gone, f"the end of {machine_id}")


class DriverConformance:
    """What the library relies on in every driver. Subclass it and give it a `harness`."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The driver under test: a fresh one, with no machine."""
        raise NotImplementedError("give this class a fixture `harness`")

    # -- claims -------------------------------------------------------------------------------

    def test_the_six_methods_are_there(self, harness: Harness) -> None:
        """A driver has all six."""
        assert [m for m in METHODS if not callable(getattr(harness.driver, m, None))] == []

    def test_what_is_claimed_is_the_same_everywhere(self, harness: Harness) -> None:
        """The catalogue and the driver claim the same features."""
        assert harness.driver.features == harness.info.features
        assert all(isinstance(feature, Feature) for feature in harness.driver.features)

    def test_an_optional_method_is_there_exactly_when_it_is_claimed(self, harness: Harness) -> None:
        """No unclaimed method exists, and no claim is empty."""
        there = {name for name in OPTIONAL if hasattr(harness.driver, name)}
        assert there == {n for n, f in OPTIONAL.items() if f in harness.driver.features}

    def test_the_promises_make_sense(self, harness: Harness) -> None:
        """Times are times, and storage is named without `://`."""
        info = harness.info
        assert min(info.settle_s, info.stop_reserve_s) >= 0
        assert info.boot_s > 0
        assert info.store_schemes
        assert not [scheme for scheme in info.store_schemes if ":" in scheme]

    # -- offers -------------------------------------------------------------------------------

    def test_offers_say_what_they_cost_and_who_says_so(self, harness: Harness) -> None:
        """A price is positive and has a source and a time, or it is unknown. Never free."""
        offers = list(harness.driver.offers())
        assert offers
        for offer in offers:
            assert offer.provider == harness.info.name
            assert offer.id
            assert offer.source
            assert offer.billing_step_s >= 1
            assert offer.minimum_s >= 0
            if offer.usd_per_hour is not None and not offer.own_machine:
                assert isinstance(offer.usd_per_hour, Decimal)
                assert offer.usd_per_hour.is_finite()
                assert offer.usd_per_hour > 0
                assert offer.as_of

    def test_offers_are_told_apart(self, harness: Harness) -> None:
        """No two offers have the same id, region and GPU."""
        keys = [(o.id, o.region, o.gpu.name) for o in harness.driver.offers()]
        assert len(keys) == len(set(keys))

    def test_spot_is_sold_exactly_when_it_is_claimed(self, harness: Harness) -> None:
        """The claim SPOT means that there are spot offers."""
        spot = any(offer.spot for offer in harness.driver.offers())
        assert spot == (Feature.SPOT in harness.driver.features)

    # -- machines -----------------------------------------------------------------------------

    @pytest.mark.parametrize("machine_id", STRANGE_IDS)
    def test_an_unknown_machine_is_gone_and_no_error(
        self, harness: Harness, machine_id: str
    ) -> None:
        """Whatever the id looks like."""
        assert harness.driver.inspect(machine_id).phase is Phase.GONE

    @pytest.mark.parametrize("machine_id", STRANGE_IDS)
    def test_the_end_of_an_unknown_machine_is_no_error(
        self, harness: Harness, machine_id: str
    ) -> None:
        """Already gone is fine."""
        harness.driver.terminate(machine_id)

    def test_an_account_without_machines_has_an_empty_fleet(self, harness: Harness) -> None:
        """Nothing of anybody else's is shown."""
        assert list(harness.driver.fleet()) == []

    def test_a_launched_machine_bears_the_name_of_its_job(self, harness: Harness) -> None:
        """The fleet shows it by that name, and so does a look at it alone."""
        machine_id = harness.launch(harness.job("kwz-me-c1-1", 600))
        assert machine_id
        harness.until(lambda: harness.sighting(machine_id) is not None, "it is in the fleet")
        seen = harness.sighting(machine_id)
        assert seen is not None
        assert (seen.name, seen.machine_id) == ("kwz-me-c1-1", machine_id)
        assert harness.driver.inspect(machine_id).phase is not Phase.GONE
        harness.until(
            lambda: harness.driver.inspect(machine_id).phase is Phase.RUNNING, "it is running"
        )
        harness.end(machine_id)

    def test_two_machines_are_told_apart(self, harness: Harness) -> None:
        """Ending one leaves the other."""
        first = harness.launch(harness.job("kwz-me-c2-1", 600))
        second = harness.launch(harness.job("kwz-me-c3-1", 600))
        assert first != second
        harness.until(lambda: harness.sighting(second) is not None, "the second is in the fleet")
        harness.end(first)
        assert harness.driver.inspect(second).phase is not Phase.GONE
        assert harness.sighting(second) is not None
        harness.end(second)

    def test_a_machine_ends_when_it_is_told_to_and_may_be_told_twice(
        self, harness: Harness
    ) -> None:
        """Even while it is still starting."""
        machine_id = harness.launch(harness.job("kwz-me-c4-1", 600))
        harness.end(machine_id)
        harness.driver.terminate(machine_id)
        assert harness.driver.inspect(machine_id).phase is Phase.GONE
        assert harness.sighting(machine_id) is None

    @pytest.mark.parametrize("code", [0, 3])
    def test_a_command_that_ends_is_seen_with_its_exit_code(
        self, harness: Harness, code: int
    ) -> None:
        """Success and failure are told apart where the provider knows."""
        if harness.exiting is None:
            pytest.skip("this provider does not say how a command ended")
        machine_id = harness.launch(harness.exiting("kwz-me-c5-1", code))
        harness.until(
            lambda: harness.driver.inspect(machine_id).phase is Phase.EXITED, "its command ends"
        )
        assert harness.driver.inspect(machine_id).exit_code == code
        harness.end(machine_id)

    def test_a_machine_that_is_taken_back_does_not_look_alive(self, harness: Harness) -> None:
        """However the provider words it."""
        if harness.preempt is None:
            pytest.skip("this provider takes nothing back")
        machine_id = harness.launch(harness.job("kwz-me-c6-1", 600))
        harness.until(
            lambda: harness.driver.inspect(machine_id).phase is Phase.RUNNING, "it is running"
        )
        harness.preempt(machine_id)
        dead = (Phase.PREEMPTED, Phase.EXITED, Phase.GONE)
        harness.until(lambda: harness.driver.inspect(machine_id).phase in dead, "it looks dead")
        harness.end(machine_id)

    def test_the_time_limit_of_a_job_ends_it_without_any_watcher(self, harness: Harness) -> None:
        """What DEADLINE_BY_PROVIDER and BY_MACHINE promise."""
        if harness.info.deadline is Deadline.BY_WATCHER:
            pytest.skip("here only a watcher can end a machine, and the plan says so")
        machine_id = harness.launch(replace(harness.job("kwz-me-c7-1", 600), max_hours=1 / 3600))
        dead = (Phase.EXITED, Phase.GONE)
        harness.until(
            lambda: harness.driver.inspect(machine_id).phase in dead, "its time limit ends it"
        )
        harness.end(machine_id)

    def test_logs_are_the_lines_that_the_machine_printed(self, harness: Harness) -> None:
        """As far as it has printed any; those of an unknown machine are none, or an error."""
        if Feature.LOGS not in harness.driver.features:
            pytest.skip("this provider shows no logs")
        driver: LogsDriver = harness.driver  # type: ignore[assignment]
        machine_id = harness.launch(harness.job("kwz-me-c8-1", 600))
        harness.until(lambda: bool(list(driver.logs(machine_id))), "it has printed something")
        lines = list(driver.logs(machine_id))
        assert not [line for line in lines if "\n" in line]
        harness.end(machine_id)
        try:
            lines = list(driver.logs("no-such-machine"))
        except Exception as error:  # noqa: BLE001 -- any, if the driver can say what it means
            meaning: object = driver.classify(error)
        else:
            meaning = None
        assert lines == [] if meaning is None else isinstance(meaning, ProviderError)

    def test_ssh_knows_the_host_key_before_anybody_connects(self, harness: Harness) -> None:
        """A machine that can be reached has an address, a host key of its own, and a way in."""
        if Feature.SSH not in harness.driver.features:
            pytest.skip("this provider gives no SSH")
        driver: SSHDriver = harness.driver  # type: ignore[assignment]
        one = harness.launch(harness.job("kwz-me-c9-1", 600))
        other = harness.launch(harness.job("kwz-me-c9-2", 600))
        harness.until(
            lambda: None not in (driver.ssh(one), driver.ssh(other)), "they can be reached"
        )
        first, second = driver.ssh(one), driver.ssh(other)
        assert first is not None
        assert second is not None
        assert first.host
        assert first.user
        assert first.host_key.split()[0].startswith(("ssh-", "ecdsa-"))
        assert first.host_key != second.host_key
        assert first == driver.ssh(one)
        assert first.identity.stat().st_mode & 0o077 == 0
        harness.end(one)
        harness.end(other)
        assert driver.ssh("no-such-machine") is None

    # -- errors -------------------------------------------------------------------------------

    @pytest.mark.parametrize("error", STRANGE_ERRORS, ids=lambda error: type(error).__name__)
    def test_every_error_has_a_meaning(self, harness: Harness, error: Exception) -> None:
        """The driver says what the caller does next, and says something about it."""
        meaning = harness.driver.classify(error)
        assert isinstance(meaning, ProviderError)
        assert meaning.message

    @pytest.mark.parametrize("error", LOST_ANSWERS, ids=lambda error: type(error).__name__)
    def test_a_lost_answer_is_ambiguous(self, harness: Harness, error: Exception) -> None:
        """Only what the provider has *proven* not to exist needs no search by name."""
        assert not harness.driver.classify(error).nothing_was_created
