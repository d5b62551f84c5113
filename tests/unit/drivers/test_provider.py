"""The portable face of a driver: what is repeated, what never is, and what errors become."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.drivers import provider as module
from kwanzaa_compute.drivers.contract import (
    Feature,
    Job,
    Phase,
    ProviderInfo,
    Sighting,
    SSHAccess,
)
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    TransientError,
    UsageError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.fakeclock import FakeClock
from kwanzaa_compute.testing.samples import sample_job, sample_offer

INFO = ProviderInfo("scripted", "Scripted", "x:Y", simulated=True)
REAL = ProviderInfo("scripted", "Scripted", "x:Y")


class Scripted:
    """A driver that answers each call with the next line of a script."""

    def __init__(self, *script: Any, features: Iterable[Feature] = ()) -> None:
        self.features = frozenset(features)
        self.script = list(script)
        self.calls: list[str] = []

    def _answer(self, call: str) -> Any:
        self.calls.append(call)
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    def offers(self) -> Iterable[Offer]:
        return self._answer("offers")  # type: ignore[no-any-return]

    def launch(self, job: Job, offer: Offer) -> str:
        del job, offer
        return self._answer("launch")  # type: ignore[no-any-return]

    def inspect(self, machine_id: str) -> Sighting:
        return self._answer(f"inspect {machine_id}")  # type: ignore[no-any-return]

    def fleet(self) -> Iterable[Sighting]:
        return self._answer("fleet")  # type: ignore[no-any-return]

    def terminate(self, machine_id: str) -> None:
        self._answer(f"terminate {machine_id}")

    def logs(self, machine_id: str) -> Iterable[str]:
        return self._answer(f"logs {machine_id}")  # type: ignore[no-any-return]

    def classify(self, error: Exception) -> ProviderError:
        if isinstance(error, ZeroDivisionError):
            raise error
        if isinstance(error, KeyError):
            return "not an error"  # type: ignore[return-value]
        return TransientError(f"classified: {error}")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def build(clock: FakeClock) -> Callable[..., tuple[Scripted, Provider]]:
    def build(
        *script: Any, info: ProviderInfo = INFO, features: Iterable[Feature] = (), **policy: Any
    ) -> tuple[Scripted, Provider]:
        driver = Scripted(*script, features=features)
        policy = {"deadline_s": None} | policy
        return driver, Provider(info, driver, clock.clock(), RetryPolicy(**policy))

    return build


Build = Callable[..., tuple[Scripted, Provider]]
SEEN = Sighting("m-1", Phase.RUNNING)


def test_a_read_is_tried_four_times_with_longer_and_longer_pauses(
    build: Build, clock: FakeClock
) -> None:
    driver, provider = build(OSError(), OSError(), OSError(), SEEN)
    assert provider.inspect("m-1") == SEEN
    assert len(driver.calls) == 4
    assert clock.elapsed_s == pytest.approx(0.5 + 1 + 2)


def test_a_read_that_keeps_failing_is_given_up(build: Build) -> None:
    driver, provider = build(*[OSError("down")] * 9)
    with pytest.raises(TransientError, match="classified: down"):
        provider.fleet()
    assert len(driver.calls) == 4


def test_a_provider_that_says_when_to_come_back_is_obeyed(build: Build, clock: FakeClock) -> None:
    _, provider = build(TransientError("slow down", retry_after_s=33), [])
    provider.fleet()
    assert clock.elapsed_s == pytest.approx(33)


@pytest.mark.parametrize("kind", [CapacityError, CredentialsError, InvalidRequestError])
def test_what_repeating_cannot_mend_is_not_repeated(
    build: Build, kind: type[ProviderError]
) -> None:
    driver, provider = build(kind("no"), SEEN)
    with pytest.raises(kind):
        provider.inspect("m-1")
    assert len(driver.calls) == 1


def test_a_termination_is_repeated(build: Build) -> None:
    driver, provider = build(OSError(), None)
    provider.terminate("m-1")
    assert driver.calls == ["terminate m-1"] * 2


@pytest.mark.parametrize("error", [OSError(), TimeoutError(), TransientError("x")])
def test_a_launch_is_never_repeated(build: Build, error: Exception) -> None:
    driver, provider = build(error, "m-1")
    with pytest.raises(TransientError) as caught:
        provider.launch(sample_job(), sample_offer())
    assert driver.calls == ["launch"]
    assert not caught.value.nothing_was_created


@pytest.mark.parametrize("answer", ["", None])
def test_a_launch_without_an_id_is_ambiguous(build: Build, answer: str | None) -> None:
    _, provider = build(answer)
    with pytest.raises(TransientError) as caught:
        provider.launch(sample_job(), sample_offer())
    assert not caught.value.nothing_was_created


def test_the_fleet_leaves_out_what_is_gone(build: Build) -> None:
    _, provider = build([SEEN, Sighting("m-2", Phase.GONE)])
    assert provider.fleet() == (SEEN,)


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("x")])
def test_a_driver_that_cannot_classify_an_error_leaves_it_ambiguous(
    build: Build, error: Exception
) -> None:
    _, provider = build(error)
    with pytest.raises(TransientError, match="scripted failed") as caught:
        provider.launch(sample_job(), sample_offer())
    assert not caught.value.nothing_was_created
    assert caught.value.__cause__ is error


def test_an_error_in_the_middle_of_a_lazy_list_is_wrapped(build: Build) -> None:
    def lazy() -> Iterator[Any]:
        yield SEEN
        raise OSError("half way")

    _, provider = build(*[lazy] * 4)
    with pytest.raises(TransientError, match="half way"):
        provider.fleet()


def test_an_error_in_the_middle_of_the_logs_is_wrapped(build: Build) -> None:
    def lazy() -> Iterator[str]:
        yield "line"
        raise OSError("half way")

    _, provider = build(*[lazy] * 4, features=[Feature.LOGS])
    with pytest.raises(TransientError, match="half way"):
        list(provider.logs("m-1"))


def test_logs_that_are_not_claimed_are_not_asked_for(build: Build) -> None:
    driver, provider = build()
    with pytest.raises(UsageError, match="no logs"):
        provider.logs("m-1")
    assert driver.calls == []


def test_a_call_that_hangs_is_given_up_at_its_deadline(build: Build) -> None:
    never = threading.Event()
    _, provider = build(never.wait, deadline_s=0.05, attempts=1)
    with pytest.raises(TransientError, match="in time"):
        provider.fleet()
    never.set()


def test_a_launch_that_hangs_is_ambiguous(build: Build) -> None:
    never = threading.Event()
    driver, provider = build(never.wait, "m-1", deadline_s=0.05)
    with pytest.raises(TransientError) as caught:
        provider.launch(sample_job(), sample_offer())
    assert not caught.value.nothing_was_created
    assert driver.calls == ["launch"]
    never.set()


def test_with_spending_switched_off_nothing_is_launched_but_all_is_ended(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALLOW_SPENDING", False)
    driver, provider = build(None, info=REAL)
    with pytest.raises(InvalidRequestError, match="switched off") as caught:
        provider.launch(sample_job(), sample_offer())
    assert caught.value.nothing_was_created
    provider.terminate("m-1")
    assert driver.calls == ["terminate m-1"]


def test_with_spending_switched_off_what_costs_nothing_still_launches(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALLOW_SPENDING", False)
    _, provider = build("m-1", info=REAL)
    assert provider.launch(sample_job(), sample_offer(own_machine=True)) == "m-1"
    _, provider = build("m-2")
    assert provider.launch(sample_job(), sample_offer()) == "m-2"


def test_with_spending_allowed_a_real_provider_launches(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALLOW_SPENDING", True)
    _, provider = build("m-1", info=REAL)
    assert provider.launch(sample_job(), sample_offer()) == "m-1"


def test_spending_can_be_forbidden_to_a_whole_process_tree() -> None:
    code = "from kwanzaa_compute.drivers import provider; print(provider.ALLOW_SPENDING)"
    environment = {**os.environ, "KWANZAA_SPENDING": "never"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == "False\n"


def test_ssh_is_for_those_who_claim_it(clock: FakeClock) -> None:
    access = SSHAccess("h", "u", "ssh-ed25519 A", Path("k"))

    class WithSsh(Scripted):
        def ssh(self, machine_id: str) -> SSHAccess | None:
            return self._answer(f"ssh {machine_id}")  # type: ignore[no-any-return]

    driver = WithSsh(TimeoutError(), access, None, features={Feature.SSH})
    provider = Provider(INFO, driver, clock.clock())
    assert provider.ssh("m-1") == access
    assert provider.ssh("m-1") is None
    assert driver.calls == ["ssh m-1"] * 3
    with pytest.raises(UsageError, match="known beforehand"):
        Provider(INFO, Scripted(), clock.clock()).ssh("m-1")
