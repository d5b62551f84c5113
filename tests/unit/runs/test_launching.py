"""Launches: refused, repeated, or with an outcome that nobody knows."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Deadline, Job, Phase, ProviderInfo
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.launching import LEASE_S
from kwanzaa_compute.runs.records import AttemptState, Fault, Move, RunState
from kwanzaa_compute.runs.supply import reserve_s
from kwanzaa_compute.store import Store
from kwanzaa_compute.testing.samples import sample_attempt
from kwanzaa_compute.testing.weather import Faults

World = Any  # a `World` of conftest.py


# -- launches whose outcome is not known ------------------------------------------------------


def _failing(world: World, error: Exception) -> None:
    def launch(job: Job, offer: Offer) -> str:
        raise error

    world.cloud.launch = launch  # type: ignore[method-assign]


def test_a_request_that_is_wrong_is_not_repeated_for_ever(world: World) -> None:
    world.add()
    _failing(world, InvalidRequestError("no such image"))
    run = world.steps(world.final).run
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
    assert world.steps(world.final, every_s=5.0).run.state is RunState.CAPPED
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
    run = world.steps(world.final).run
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
    assert world.steps(world.final).run.state is RunState.DONE
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
