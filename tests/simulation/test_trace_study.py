"""The trace study: what the documentation says of it, and what must hold on the real traces."""

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kwanzaa_compute.testing import Place, Trace
from kwanzaa_compute.testing.replay import Task
from kwanzaa_compute.testing.samples import sample_offer

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study() -> ModuleType:
    """The script, as a module beside the ones that it imports."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("trace_study")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def rows(study, preemption_traces):
    return list(study.study(preemption_traces))


def test_the_page_and_the_plot_are_those_of_the_script(study, rows):
    page = study.PAGE.read_text(encoding="utf-8")
    again = "make them again: python examples/trace_study.py --write"
    assert study.filled(page, rows) == page, again
    assert study.chart(rows) == study.PLOT.read_text(encoding="utf-8"), again


def test_no_deadline_is_missed_on_real_traces(rows):
    assert len(rows) == 16
    assert [row for row in rows if row.missed] == []


def test_nothing_costs_more_than_the_cheaper_baseline_and_one_restart_on_real_traces(rows):
    assert [row for row in rows if row.worst > 1.000001] == []


def test_where_several_zones_can_be_had_the_mean_gap_to_the_optimum_is_at_most_ten_percent(rows):
    gaps = [row.gap for row in rows if row.traces == "AWS V100, five zones"]
    assert sum(gaps) / len(gaps) <= 0.10


def test_the_optimum_is_never_beaten(rows):
    assert [row for row in rows if not 0 < row.optimum <= min(row.recovery, row.on_demand)] == []


# -- the optimum itself, where it can be found by trying everything -----------------------------


def everything(places: list[Place], task: Task, usd: list[float]) -> float:
    """The least cost by trying every sequence of places, one a step; -1 is no machine."""
    best = float("inf")
    for path in itertools.product(range(-1, len(places)), repeat=task.deadline):
        best = min(best, _cost(path, places, task, usd))
    return best


def _cost(path: tuple[int, ...], places: list[Place], task: Task, usd: list[float]) -> float:
    cost, done, set_up, before = 0.0, 0, 0, -1
    for step, here in enumerate(path):
        trace = places[here].trace
        if here >= 0 and trace is not None and not trace.available[step % len(trace.available)]:
            return float("inf")
        if here >= 0:
            set_up = task.set_up if here != before else set_up
            cost += usd[here]
            done, set_up = (done, set_up - 1) if set_up else (done + 1, 0)
            if done == task.work:
                return cost
        before = here
    return float("inf")


@pytest.mark.parametrize(
    ("first", "second"), [("1101110", "0011011"), ("1011111", "1110001"), ("1000111", "0111000")]
)
@pytest.mark.parametrize("set_up", [1, 2])
def test_the_optimum_is_the_least_of_all_that_can_be_done(study, first, second, set_up):
    task = Task(set_up, 3, 7, 3600.0)
    places = [
        Place(
            sample_offer(id="a", spot=True, usd_per_hour=study.Decimal(1)),
            trace=Trace([c == "1" for c in first], 3600.0),
        ),
        Place(
            sample_offer(id="b", spot=True, usd_per_hour=study.Decimal(2)),
            trace=Trace([c == "1" for c in second], 3600.0),
        ),
        Place(sample_offer(id="c", usd_per_hour=study.Decimal(5))),
    ]
    (found,) = study.optimum(places, task, [0])
    assert found == pytest.approx(everything(places, task, [1.0, 2.0, 5.0]))
