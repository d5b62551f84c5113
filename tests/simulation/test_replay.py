"""The recovery policy on hostile spot capacity, in steps; and whole runs that agree with it."""

import itertools
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.runs import deadlines
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptRecord, Fault, Move, RunRecord, RunState
from kwanzaa_compute.runs.supervisor import Supervisor
from kwanzaa_compute.testing import FakeCloud, Place, Trace, Training, Weather
from kwanzaa_compute.testing.replay import AtOnce, Paid, Recovery, Task, replay, run_of
from kwanzaa_compute.testing.samples import sample_offer

STEP_S = 195.0
FIRM_USD = Decimal("3.00")
FIRM = Place(sample_offer(id="firm", usd_per_hour=FIRM_USD))
_names = itertools.count()


def spot(number: int, available: list[bool], usd: Decimal = Decimal("0.60")) -> Place:
    region = f"zone-{number}"
    offer = sample_offer(id="spot", spot=True, region=region, usd_per_hour=usd)
    return Place(offer, trace=Trace(available, STEP_S))


def pattern(*lengths: int) -> list[bool]:
    """Available for so many steps, then not for so many, and so on."""
    return [n % 2 == 0 for n, length in enumerate(lengths) for _ in range(length)]


def steps_usd(steps: int) -> Decimal:
    return FIRM_USD * Decimal(steps * STEP_S) / 3600


@st.composite
def _hostile(draw: st.DrawFn) -> tuple[list[Place], Task, int]:
    set_up, work = draw(st.integers(1, 5)), draw(st.integers(1, 60))
    spare = draw(st.integers(0, 90))
    prices = st.decimals("0.05", "3.50", places=2)
    outages = st.lists(st.integers(1, 12), min_size=2, max_size=12)
    places = [
        spot(number, pattern(*draw(outages)), draw(prices))
        for number in range(draw(st.integers(1, 3)))
    ]
    task = Task(set_up, work, set_up + work + spare, STEP_S)
    return [*places, FIRM], task, draw(st.integers(0, 40))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(_hostile())
def test_no_deadline_is_missed_that_on_demand_alone_would_keep(
    world: tuple[list[Place], Task, int],
) -> None:
    places, task, start = world
    paid = replay(places, task, Recovery(), start)
    assert paid.kept(task)
    assert not paid.gambled


@settings(max_examples=400, deadline=None, derandomize=True)
@given(_hostile())
def test_no_run_costs_more_than_on_demand_alone_and_one_restart(
    world: tuple[list[Place], Task, int],
) -> None:
    places, task, start = world
    paid = replay(places, task, Recovery(), start)
    one_restart = steps_usd(task.set_up + 1)
    assert paid.usd <= steps_usd(task.alone) + one_restart + Decimal("0.000001")


@pytest.mark.parametrize(
    ("reserve", "promise"),
    [
        (deadlines.Outlook, test_no_deadline_is_missed_that_on_demand_alone_would_keep),
        (deadlines.Stake, test_no_run_costs_more_than_on_demand_alone_and_one_restart),
    ],
)
def test_without_either_reserve_its_promise_is_broken(
    reserve: type, promise: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "allows", lambda *_: True)
    with pytest.raises(AssertionError):
        promise()


def test_who_relaunches_at_once_can_miss_a_deadline_so_there_is_something_to_hold() -> None:
    # Spot that lasts exactly as long as a set-up: every machine is lost before its first step.
    places, task = [spot(1, pattern(4, 1)), FIRM], Task(4, 20, 30, STEP_S)
    assert replay(places, task, Recovery()).kept(task)
    worse = [spot(1, pattern(4, 1)), spot(2, pattern(0, 4, 1, 0), Decimal("0.70"))]
    assert not replay(worse, task, AtOnce()).kept(task)


def test_a_run_without_any_outage_costs_what_spot_costs() -> None:
    task = Task(3, 40, 80, STEP_S)
    paid = replay([spot(1, [True]), FIRM], task, Recovery())
    assert paid.usd == Decimal("0.60") * Decimal(43 * STEP_S) / 3600
    assert paid.finished == 43


def test_a_run_without_any_spot_waits_and_then_costs_what_on_demand_costs() -> None:
    task = Task(3, 40, 80, STEP_S)
    paid = replay([spot(1, [False]), FIRM], task, Recovery())
    assert paid.usd == steps_usd(43)
    assert 43 < (paid.finished or 0) <= 80


def test_a_run_goes_back_to_spot_when_it_comes_back_early_enough() -> None:
    task = Task(3, 100, 150, STEP_S)
    paid = replay([spot(1, pattern(30, 45, 200, 1)), FIRM], task, Recovery())
    assert [attempt.spot for attempt in paid.attempts] == [True, False, True]
    assert paid.kept(task)


def test_the_price_of_a_place_decides_among_those_that_are_to_be_had() -> None:
    task = Task(3, 40, 80, STEP_S)
    cheap, dear = spot(1, [True], Decimal("0.50")), spot(2, [True], Decimal("0.90"))
    paid = replay([dear, cheap, FIRM], task, Recovery())
    assert [attempt.region for attempt in paid.attempts] == ["zone-1"]


# -- whole runs ---------------------------------------------------------------------------------

BOOT_S, LOAD_S, POLL_S = 60.0, 405.0, 30.0
"""With what a watcher takes to notice a loss and prove it, about three steps of set-up."""


def whole_run(places: list[Place], task: Task, start: int) -> tuple[RunRecord, list[AttemptRecord]]:
    """The same through the real supervisor and ledger, on a cloud that follows the traces."""
    traces = {
        p.offer.region: Trace([*p.trace.available[start:], *p.trace.available[:start]], STEP_S)
        for p in places
        if p.trace is not None
    }
    cloud = FakeCloud(
        offers=[place.offer for place in places],
        trace=traces,
        weather=Weather(boot_s=(BOOT_S, BOOT_S)),
        training=Training(
            steps=task.work, step_s=STEP_S, load_s=LOAD_S, steps_a_beat=1, beats_a_checkpoint=1
        ),
    )
    prospects = [replace(task.prospect(p), set_up_s=BOOT_S + LOAD_S) for p in places]
    with closing(Ledger(f"file:/replay{next(_names)}?vfs=memdb", cloud.clock.clock())) as ledger:
        ledger.add_run(replace(run_of(places, task), candidates=dump_prospects(prospects)))
        watcher = Supervisor(
            ledger,
            lambda _name: cloud.provider(),
            cloud.open_store,
            cloud.clock.clock(),
            holder="w",
            environment={},
        )
        run = watcher.watch("r1", poll_s=POLL_S)
        assert cloud.billing == []
        return run, ledger.attempts("r1")


def agrees(places: list[Place], task: Task, start: int = 0) -> tuple[Paid, list[AttemptRecord]]:
    """Both, after checking that they tell the same story to within a restart and 15 %."""
    paid = replay(places, task, Recovery(), start)
    run, attempts = whole_run(places, task, start)
    assert run.state is RunState.DONE
    assert (run.ended_at or 0) <= (run.deadline_at or 0)
    usd = sum(
        (a.usd_per_hour * Decimal(a.billed_s(0.0)) / 3600 for a in attempts), start=Decimal(0)
    )
    assert abs(usd - paid.usd) <= paid.usd * Decimal("0.15") + steps_usd(task.set_up + 1)
    return paid, attempts


TWO_HOURS = Task.of(2, 2, set_up_s=585, step_s=STEP_S)


def test_a_whole_run_that_is_never_taken_back_agrees() -> None:
    paid, attempts = agrees([spot(1, [True]), FIRM], TWO_HOURS)
    assert len(paid.attempts) == len(attempts) == 1


def test_a_whole_run_moves_to_another_zone() -> None:
    places = [spot(1, pattern(15, 40)), spot(2, pattern(60)), FIRM]
    paid, attempts = agrees(places, TWO_HOURS)
    assert [a.region for a in attempts] == [a.region for a in paid.attempts]
    assert [a.fault for a in attempts] == [Fault.PREEMPTED, Fault.NONE]


def test_a_whole_run_waits_for_spot_and_asks_for_no_machine_meanwhile() -> None:
    _, attempts = agrees([spot(1, pattern(0, 10, 60)), FIRM], TWO_HOURS)
    (only,) = attempts
    assert only.spot
    assert only.intended_at - run_of([FIRM], TWO_HOURS).created_at >= 10 * STEP_S


def test_a_whole_run_falls_back_to_on_demand_in_time() -> None:
    _, attempts = agrees([spot(1, pattern(12, 100)), FIRM], TWO_HOURS)
    assert [a.spot for a in attempts] == [True, False]


def test_a_whole_run_saves_and_goes_back_to_spot() -> None:
    task = Task(3, 100, 160, STEP_S)
    _, attempts = agrees([spot(1, pattern(30, 60, 200, 1)), FIRM], task)
    assert [a.spot for a in attempts] == [True, False, True]
    firm = attempts[1]
    assert firm.leaving
    assert firm.ending is Move.RELAUNCH
    assert firm.fault is Fault.NONE
    assert firm.checkpoint == f"ckpt-{firm.step}-{firm.number}"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=8), min_size=1, max_size=2),
    st.integers(1, 30),
    st.integers(1, 40),
)
def test_a_whole_run_keeps_its_deadline_whatever_becomes_of_spot(
    outages: list[list[int]], work: int, spare: int
) -> None:
    places = [spot(number, pattern(*lengths)) for number, lengths in enumerate(outages)]
    task = Task(3, work, 3 + work + spare, STEP_S)
    run, attempts = whole_run([*places, FIRM], task, 0)
    assert run.state is RunState.DONE
    assert (attempts[-1].ending_at or 0) <= (run.deadline_at or 0) + POLL_S
    usd = sum((a.usd_per_hour * Decimal(a.billed_s(0.0)) / 3600 for a in attempts), Decimal(0))
    # Our count goes on until a machine's absence is proven, for on-demand alone as well.
    proven = steps_usd(2)
    assert usd <= steps_usd(task.alone) + steps_usd(task.set_up + 1) + proven


@pytest.mark.parametrize("region", ["zone-1", "zone-2"])
def test_a_trace_can_be_given_for_each_region(region: str) -> None:
    offers = [spot(1, [True]).offer, spot(2, [True]).offer]
    cloud = FakeCloud(offers=offers, trace={region: Trace([False])})
    there = {o.region: o.availability for o in cloud.offers()}
    assert [name for name, now in there.items() if now == "sold out"] == [region]


# -- and on real traces -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zones(preemption_traces: Path) -> list[Place]:
    """The five AWS zones, and on-demand."""
    files = sorted((preemption_traces / "aws-v100-2023").glob("*.json"))
    recorded = [json.loads(file.read_text())["data"] for file in files]
    return [*(spot(n, [bool(up) for up in data]) for n, data in enumerate(recorded)), FIRM]


@pytest.mark.parametrize("start", [0, 30, 4_000, 12_864, 15_414, 19_000])
def test_a_whole_run_on_a_real_trace_agrees(zones: list[Place], start: int) -> None:
    agrees(zones, Task.of(2, 1.5, set_up_s=585, step_s=STEP_S), start)


def test_a_whole_day_on_a_real_trace_agrees(zones: list[Place]) -> None:
    paid, attempts = agrees([*zones[:2], FIRM], Task.of(24, 2, set_up_s=585, step_s=STEP_S), 700)
    assert len(paid.attempts) > 5
    assert len(attempts) > 5
