"""What machines write, and how they end: neither is believed without proof."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kwanzaa_compute.errors import (
    MayBeBillingError,
)
from kwanzaa_compute.runs.records import Move, RunState, Wish
from kwanzaa_compute.store import Done, Failure
from kwanzaa_compute.testing.weather import Faults, Weather

World = Any  # a `World` of conftest.py


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
    assert world.steps(world.final).run.state is RunState.DONE  # the done marker is sound
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
    assert world.steps(world.final).run.state is RunState.FAILED
    assert world.cloud.billing == []


def test_a_store_that_cannot_be_read_does_not_end_a_healthy_machine(world: World) -> None:
    world.add()
    world.steps(world.working)
    world.store_down = True
    world.clock.sleep(5000)
    assert world.watcher.step_once("r1").move is Move.WAIT
    world.store_down = False
    assert world.steps(world.final).run.state is RunState.DONE
    assert len(world.ledger.attempts("r1")) == 1


# -- ends -------------------------------------------------------------------------------------


def test_a_stop_does_not_wait_for_ever_for_a_store_that_is_down(world: World) -> None:
    world.cloud.training = replace(world.cloud.training, steps=100_000)
    world.add()
    world.steps(world.working)
    world.ledger.set_wish("r1", Wish.STOP)
    world.store_down = True
    world.steps(lambda step: step.move is Move.HALT)
    world.clock.sleep(60)
    assert world.cloud.billing == []


def test_a_termination_comes_to_its_end_without_the_store(world: World) -> None:
    world.add()
    world.steps(world.working)
    world.ledger.set_wish("r1", Wish.TERMINATE)
    world.store_down = True
    assert world.steps(world.final).run.state is RunState.STOPPED


def test_what_was_finished_after_it_was_given_up_is_not_trained_again(world: World) -> None:
    world.add()
    world.steps(world.working)
    world.cloud.sim.preempt(next(iter(world.cloud.sim.machines.values())))
    world.steps(lambda step: step.move is Move.RELAUNCH)
    world.folder.put_done(Done(1, 100, {}))
    assert world.steps(world.final).run.state is RunState.DONE
    assert len(world.ledger.attempts("r1")) == 1


def test_a_machine_whose_end_is_not_confirmed_is_called_by_its_name_and_price(
    worlds: Callable[..., World],
) -> None:
    world = worlds(faults=Faults(terminate_lies=1.0))
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


def test_a_long_settle_window_alone_is_no_reason_to_complain(worlds: Callable[..., World]) -> None:
    world = worlds(weather=Weather(boot_s=(30.0, 30.0), list_lag_s=300.0))
    world.add()
    assert world.watcher.watch("r1", poll_s=20).state is RunState.DONE
