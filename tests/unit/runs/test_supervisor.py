"""The supervisor, one situation at a time; `tests/simulation` mixes them by the thousand."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Deadline, Job, Phase, ProviderInfo, Sighting
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    LeaseLostError,
    MayBeBillingError,
    ProviderError,
    QuotaError,
    StoreError,
    TransientError,
    UsageError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.launching import LEASE_S
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptState, Fault, Move, RunRecord, RunState, Wish
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supervisor import Supervisor
from kwanzaa_compute.runs.supply import reserve_s
from kwanzaa_compute.store import Done, Failure, RunFolder, Store
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer, sample_run
from kwanzaa_compute.testing.weather import Faults, Weather

_names = itertools.count()


class World:
    """A cloud, a ledger and one watcher, with handles on all of it."""

    def __init__(self, **cloud: Any) -> None:
        self.cloud = FakeCloud(offers=[sample_offer(region="north")], **cloud)
        self.clock = self.cloud.clock
        where = f"file:/supervisor{next(_names)}?vfs=memdb"
        self.ledger = Ledger(where, self.clock.clock())
        self.other_ledger = Ledger(where, self.clock.clock())
        self.store_down = False
        self.providers: dict[str, Provider] = {"fake": self.cloud.provider()}
        self.watcher = self.another("a", self.ledger)

    def another(self, holder: str, ledger: Ledger | None = None) -> Supervisor:
        return Supervisor(
            ledger or self.other_ledger,
            self.provider,
            self.open_store,
            self.clock.clock(),
            holder=holder,
            environment={},
        )

    def provider(self, name: str) -> Provider:
        if name not in self.providers:
            raise UsageError(f"provider {name} is not installed here")
        return self.providers[name]

    def open_store(self, url: str) -> Store:
        if self.store_down:
            raise StoreError("the store is down")
        return self.cloud.stores.open(url)

    def add(self, *offers: Offer, **changes: Any) -> RunRecord:
        run = sample_run(*offers, created_at=self.clock.at, **changes)
        self.ledger.add_run(run)
        return run

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.cloud.stores.open("memory://run"))

    def steps(self, until: Callable[[Step], bool], *, every_s: float = 20.0) -> Step:
        for _ in range(2000):
            step = self.watcher.step_once("r1")
            if until(step):
                return step
            self.clock.sleep(every_s)
        raise AssertionError("it never came to that")


def final(step: Step) -> bool:
    return step.run.state is not RunState.RUNNING


def working(step: Step) -> bool:
    return step.heartbeat is not None


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with closing(world.ledger), closing(world.other_ledger):
        yield world


def test_a_run_is_seen_through_and_nothing_bills_when_it_is_final(world: World) -> None:
    world.add()
    run = world.watcher.watch("r1", poll_s=20)
    assert run.state is RunState.DONE
    assert world.cloud.billing == []
    assert [a.state for a in world.ledger.attempts("r1")] == [AttemptState.CLOSED]


# -- many runs at once ------------------------------------------------------------------------


def test_what_was_seen_of_many_runs_is_written_in_one_transaction(world: World) -> None:
    for n in range(20):
        world.add(id=f"r{n}", store_url=f"memory://r{n}")
    world.watcher.sweep()
    world.clock.sleep(100)
    written: list[str] = []
    world.ledger._db.set_trace_callback(written.append)
    steps = world.watcher.sweep()
    assert [step.heartbeat is not None for step in steps] == [True] * 20
    assert written.count("COMMIT") == 2  # the leases, and what was seen


def test_runs_that_could_not_be_looked_at_in_time_come_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        world.add(id=f"r{n}", store_url=f"memory://r{n}", max_usd=None)
    world.watcher.sweep()
    real = world.cloud.stores.open

    def slow_store(url: str) -> Store:
        world.clock.sleep(LEASE_S)
        return real(url)

    monkeypatch.setattr(world.watcher._observer, "_open_store", slow_store)
    steps = world.watcher.sweep()
    assert sorted(step.run.id for step in steps) == [f"r{n}" for n in range(5)]
    assert {step.heartbeat is not None for step in steps} == {True}


def test_what_somebody_else_has_had_meanwhile_is_not_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add()
    world.watcher.sweep()
    world.clock.sleep(100)

    def slow_store(url: str) -> Store:
        world.clock.sleep(LEASE_S + 1)
        lease = world.other_ledger.take_lease("r1", "b", 10)
        assert lease is not None
        world.other_ledger.release_lease(lease)
        return world.cloud.stores.open(url)

    monkeypatch.setattr(world.watcher._observer, "_open_store", slow_store)
    assert world.watcher.sweep() == []
    assert world.ledger.attempts("r1")[0].beat_sequence == -1


# -- one run's trouble ------------------------------------------------------------------------


def test_a_run_on_a_provider_that_is_gone_does_not_stop_the_sweep(world: World) -> None:
    world.add(id="r0", store_url="memory://r0")
    lease = world.ledger.take_lease("r0", "a", 60)
    assert lease is not None
    world.ledger.add_attempt(
        lease, sample_attempt(run_id="r0", name="kwz-me-r0-1", provider="uninstalled")
    )
    world.add()
    swept = [step.run.id for step in world.watcher.sweep()]
    assert swept == ["r1"]
    assert "not installed" in world.ledger.events("r0")[-1].message


def test_a_candidate_that_cannot_be_had_from_here_is_passed_over(world: World) -> None:
    world.add(sample_offer(provider="uninstalled"), sample_offer())
    world.watcher.step_once("r1")
    assert [a.provider for a in world.ledger.attempts("r1")] == ["fake"]


def test_a_sweep_lists_the_machines_of_a_provider_once(world: World) -> None:
    for number in range(20):
        world.add(id=f"r{number}", store_url=f"memory://r{number}")
    world.watcher.sweep()
    calls = []
    listing = world.cloud.sim.listing
    world.cloud.sim.listing = lambda: calls.append(1) or listing()  # type: ignore[method-assign,func-returns-value]
    world.watcher.sweep()
    assert len(calls) == 1


# -- leases -----------------------------------------------------------------------------------


def test_a_watcher_whose_provider_is_slow_goes_on_watching(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add()
    real = world.cloud.fleet
    slow = iter([LEASE_S + 30, LEASE_S + 30])

    def fleet() -> Iterable[Sighting]:
        world.clock.sleep(next(slow, 0.0))
        return real()

    monkeypatch.setattr(world.cloud, "fleet", fleet)
    assert world.watcher.watch("r1", poll_s=20).state is RunState.DONE


def test_a_watcher_leaves_a_run_to_the_one_who_has_it(world: World) -> None:
    world.add()
    assert world.ledger.take_lease("r1", "b", 1e6) is not None
    with pytest.raises(LeaseLostError, match="another watcher"):
        world.watcher.watch("r1", poll_s=20)
    assert world.watcher.sweep() == []
    assert world.cloud.sim.log == []


def test_nobody_takes_over_while_a_machine_is_being_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add()
    real = world.cloud.launch
    taken = []

    def launch(job: Job, offer: Offer) -> str:
        world.clock.sleep(60)  # as long as a call to a provider may take
        taken.append(world.other_ledger.take_lease("r1", "b", 60))
        return real(job, offer)

    def slow_store(url: str) -> Store:
        world.clock.sleep(LEASE_S * 0.4)
        return world.cloud.stores.open(url)

    monkeypatch.setattr(world.cloud, "launch", launch)
    monkeypatch.setattr(world.watcher._launcher, "_open_store", slow_store)
    world.watcher.step_once("r1")
    assert taken == [None]


# -- what machines write ----------------------------------------------------------------------

GOOD = {"sequence": 1, "phase": "train", "attempt": 1, "step": 1}


@pytest.mark.parametrize("odd", [-1, 0, "soon", True, float("nan"), float("inf"), 10**400, [1]])
def test_a_promise_that_makes_no_sense_leaves_the_phases_own_patience(
    world: World, odd: object
) -> None:
    world.add()
    world.watcher.step_once("r1")
    world.folder.store.put(
        "attempts/1/heartbeat.json", json.dumps(GOOD | {"interval_s": odd}).encode()
    )
    step = world.watcher.step_once("r1")
    assert step.heartbeat is not None
    assert step.heartbeat.interval_s is None


@pytest.mark.parametrize(
    "odd",
    [
        {"sequence": "x"},
        {"sequence": 10**30},
        {"sequence": None},
        {"step": 1.5},
        {"step": "DROP TABLE runs"},
        {"phase": ["train"]},
        {"phase": None},
        {"checkpoint": {"a": 1}},
    ],
)
def test_a_heartbeat_that_makes_no_sense_is_no_heartbeat(
    world: World, odd: dict[str, object]
) -> None:
    world.add()
    world.watcher.step_once("r1")
    beat = json.dumps(GOOD | odd).encode()
    put = world.folder.store.put

    def lie(path: str, data: bytes) -> None:
        put(path, beat if path.endswith("heartbeat.json") else data)

    world.folder.store.put = lie  # type: ignore[method-assign]
    world.clock.sleep(60)
    step = world.watcher.step_once("r1")
    assert (step.move, step.heartbeat) == (Move.WAIT, None)
    world.clock.sleep(900)
    assert world.steps(final).run.state is RunState.DONE  # the done marker is sound
    assert world.cloud.billing == []


@pytest.mark.parametrize("message", [None, ["a"], 5])
def test_a_failure_that_makes_no_sense_does_not_keep_a_machine_alive(
    world: World, message: object
) -> None:
    world.add()
    world.watcher.step_once("r1")
    failure = {"attempt": 1, "message": message, "retryable": False}
    world.folder.store.put("attempts/1/failure.json", json.dumps(failure).encode())
    machine = world.cloud.billing[0]
    world.clock.sleep(40)
    world.cloud.sim.exit(machine, 1)
    assert world.watcher.step_once("r1").move is Move.RELAUNCH


def test_half_a_surrogate_pair_does_not_keep_a_machine_alive(world: World) -> None:
    world.add()
    world.watcher.step_once("r1")
    world.folder.put_failure(Failure(1, "bad \ud800 text", retryable=False))
    assert world.watcher.step_once("r1").move is Move.FAIL
    assert world.steps(final).run.state is RunState.FAILED
    assert world.cloud.billing == []


def test_a_store_that_cannot_be_read_does_not_end_a_healthy_machine(world: World) -> None:
    world.add()
    world.steps(working)
    world.store_down = True
    world.clock.sleep(5000)
    assert world.watcher.step_once("r1").move is Move.WAIT
    world.store_down = False
    assert world.steps(final).run.state is RunState.DONE
    assert len(world.ledger.attempts("r1")) == 1


# -- ends -------------------------------------------------------------------------------------


def test_a_stop_does_not_wait_for_ever_for_a_store_that_is_down(world: World) -> None:
    world.cloud.training = replace(world.cloud.training, steps=100_000)
    world.add()
    world.steps(working)
    world.ledger.set_wish("r1", Wish.STOP)
    world.store_down = True
    world.steps(lambda step: step.move is Move.HALT)
    world.clock.sleep(60)
    assert world.cloud.billing == []


def test_a_termination_comes_to_its_end_without_the_store(world: World) -> None:
    world.add()
    world.steps(working)
    world.ledger.set_wish("r1", Wish.TERMINATE)
    world.store_down = True
    assert world.steps(final).run.state is RunState.STOPPED


def test_what_was_finished_after_it_was_given_up_is_not_trained_again(world: World) -> None:
    world.add()
    world.steps(working)
    world.cloud.sim.preempt(next(iter(world.cloud.sim.machines.values())))
    world.steps(lambda step: step.move is Move.RELAUNCH)
    world.folder.put_done(Done(1, 100, {}))
    assert world.steps(final).run.state is RunState.DONE
    assert len(world.ledger.attempts("r1")) == 1


def test_a_machine_whose_end_is_not_confirmed_is_called_by_its_name_and_price() -> None:
    world = World(faults=Faults(terminate_lies=1.0))
    world.add()
    began = world.clock.at
    with pytest.raises(MayBeBillingError) as caught:
        world.watcher.watch("r1", poll_s=20)
    told = str(caught.value)
    assert caught.value.exit_code == 6
    for word in ("m-1", "A simulated cloud", "$1.00/h", "https://console.invalid"):
        assert word in told
    assert world.ledger.run("r1").state is RunState.RUNNING
    assert world.clock.at - began > 300 + world.cloud.info.settle_s
    assert world.ledger.watcher("r1") is None


def test_a_long_settle_window_alone_is_no_reason_to_complain() -> None:
    world = World(weather=Weather(boot_s=(30.0, 30.0), list_lag_s=300.0))
    world.add()
    assert world.watcher.watch("r1", poll_s=20).state is RunState.DONE


# -- launches whose outcome is not known ------------------------------------------------------


def _failing(world: World, error: Exception) -> None:
    def launch(job: Job, offer: Offer) -> str:
        raise error

    world.cloud.launch = launch  # type: ignore[method-assign]


def test_a_request_that_is_wrong_is_not_repeated_for_ever(world: World) -> None:
    world.add()
    _failing(world, InvalidRequestError("no such image"))
    run = world.steps(final).run
    assert (run.state, run.reason) == (RunState.FAILED, "no such image")
    assert len(world.ledger.attempts("r1")) == 1


def test_a_launch_that_may_have_worked_is_repeated_only_after_the_settle_window(
    world: World,
) -> None:
    world.add()
    _failing(world, TransientError("bad gateway"))
    began = world.clock.at
    world.steps(lambda _step: len(world.ledger.attempts("r1")) == 2)
    first = world.ledger.attempts("r1")[0]
    assert (first.fault, first.reason) == (Fault.TRANSIENT, "bad gateway")
    assert world.clock.at - began >= world.cloud.info.settle_s


def test_an_old_listing_proves_no_absence(world: World) -> None:
    world.add()
    lease = world.ledger.take_lease("r1", "a", 1e6)
    assert lease is not None
    attempt = sample_attempt(state=AttemptState.INTENDED, machine_id="", intended_at=world.clock.at)
    world.ledger.add_attempt(lease, attempt)
    fleets: Any = {}
    world.watcher.step(lease, fleets)  # asks for a list, and finds nothing in it
    world.clock.sleep(10_000)
    assert world.watcher.step(lease, fleets).move is Move.WAIT  # still the same, old list
    assert world.watcher.step(lease, {}).move is Move.CLOSE


def test_the_time_that_proving_an_absence_takes_is_kept_back_from_the_cap(world: World) -> None:
    world.cloud.training = replace(world.cloud.training, steps=100_000)
    world.add(max_usd=Decimal("0.20"))
    assert world.steps(final, every_s=5.0).run.state is RunState.CAPPED
    from kwanzaa_compute.runs.spending import spent_usd

    assert spent_usd(world.ledger.attempts("r1"), world.clock.at) <= Decimal("0.20")


@pytest.mark.parametrize(
    ("deadline", "keeps"), [(Deadline.BY_PROVIDER, 90.0), (Deadline.BY_MACHINE, 930.0)]
)
def test_no_driver_can_forget_that_a_machines_own_limit_begins_after_its_boot(
    deadline: Deadline, keeps: float
) -> None:
    info = ProviderInfo(
        "x", "X", "", settle_s=30.0, boot_s=900.0, stop_reserve_s=60.0, deadline=deadline
    )
    assert reserve_s(info) == keeps


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CredentialsError("the key is not valid", nothing_was_created=True), 3),
        (QuotaError("the balance is empty", nothing_was_created=True), 5),
        (CapacityError("sold out", nothing_was_created=True), 4),
    ],
)
def test_a_run_that_was_refused_everywhere_ends_with_the_exit_code_of_what_mends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, error: ProviderError, code: int
) -> None:
    monkeypatch.setattr(world.cloud, "classify", lambda _error: error)
    monkeypatch.setattr(world.cloud.sim, "create", _fails)
    world.add()
    run = world.steps(final).run
    assert run.state.exit_code == code
    assert error.message in run.reason


def _fails(*_args: object) -> str:
    raise OSError("no")


def test_no_launch_is_tried_before_the_time_that_a_provider_asks_for(world: World) -> None:
    world.cloud.sim.faults = Faults(rate_limited=1.0, retry_after_s=100.0)
    world.add()
    world.watcher.step_once("r1")
    began = world.clock.at
    world.cloud.sim.faults = Faults()
    launched = world.steps(lambda step: step.attempt is not None and step.attempt.number == 2)
    assert launched.attempt is not None
    assert 100.0 <= launched.attempt.intended_at - began < 130.0


def test_a_provider_that_asks_for_an_endless_pause_is_asked_again_within_the_hour(
    world: World,
) -> None:
    world.cloud.sim.faults = Faults(rate_limited=1.0, retry_after_s=1e12)
    world.add()
    step = world.watcher.step_once("r1")
    assert step.attempt is not None
    assert step.attempt.retry_at == world.clock.at + 3600


def test_an_unknown_machine_of_the_same_name_is_ended(world: World) -> None:
    world.cloud.sim.faults = Faults(create_twice=1.0)
    world.add()
    assert world.steps(final).run.state is RunState.DONE
    assert world.cloud.billing == []
    assert [e.kind for e in world.ledger.events("r1")].count("double") == 1
    assert Phase.GONE is world.cloud.inspect("m-2").phase


def test_a_machine_is_not_blamed_for_the_time_that_the_store_took(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add()
    began = world.clock.at

    def slow_store(url: str) -> Store:
        world.clock.sleep(LEASE_S - 20)
        return world.cloud.stores.open(url)

    monkeypatch.setattr(world.watcher._launcher, "_open_store", slow_store)
    world.watcher.step_once("r1")
    (machine,) = world.cloud.billing
    assert machine.created_at >= began + LEASE_S - 20
    assert world.ledger.attempts("r1")[0].intended_at == machine.created_at
