"""Runs seen through, many at once and by many watchers; `tests/simulation` mixes it all."""

from collections.abc import Iterable
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Job, Sighting
from kwanzaa_compute.errors import (
    LeaseLostError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.launching import LEASE_S
from kwanzaa_compute.runs.records import AttemptState, RunState
from kwanzaa_compute.store import Store
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer

World = Any  # a `World` of conftest.py


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
