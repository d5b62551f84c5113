"""Thousands of hostile worlds: the real supervisor and ledger, and no machine left billing."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest

from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.runs.schema import integrity
from kwanzaa_compute.testing.hostile import Outcome, shrink, survive
from kwanzaa_compute.testing.schedules import draw

SEEDS = int(os.environ.get("KWANZAA_SEEDS", "10000"))
ON_DISK = 500
GROUPS = 10


def told(outcome: Outcome) -> str:
    """What a person needs to repeat and understand a violation."""
    smallest = shrink(outcome)
    return (
        f"seed {outcome.schedule.seed}: {outcome.violations[0]}\n"
        f"shrunk to the strikes {smallest.strikes}: {smallest.violations[0]}\n{smallest.log}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_no_schedule_breaks_an_invariant(group: int) -> None:
    for seed in range(group, SEEDS, GROUPS):
        outcome = survive(draw(seed))
        assert not outcome.violations, told(outcome)


def test_the_schedules_are_hostile_enough_to_matter() -> None:
    outcomes = [survive(draw(seed)) for seed in range(100)]
    kinds = {kind for outcome in outcomes for kind, _ in outcome.strikes}
    assert kinds >= {
        "blink",
        "crash",
        "create error after",
        "create error before",
        "create lands late",
        "create time-out after",
        "create time-out before",
        "create twice",
        "deaf",
        "inspect error",
        "list error",
        "list time-out",
        "preemption",
        "rate limit",
        "sold out",
        "stays stopped",
        "store error",
        "store slow",
        "terminate error after",
        "terminate error before",
        "terminate lies",
        "torn checkpoint",
        "trainer crash",
        "trainer failure",
        "trainer hang",
        "wish",
    }
    states = {state for outcome in outcomes for state in outcome.states}
    assert states >= {RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.CAPPED}


@pytest.mark.slow
def test_no_schedule_on_disk_breaks_an_invariant_and_each_leaves_a_sound_ledger(
    tmp_path: Path,
) -> None:
    def play(seed: int) -> Outcome:
        folder = tmp_path / str(seed)
        folder.mkdir()
        outcome = survive(draw(seed), folder=folder)
        (path,) = folder.glob("*.db")
        assert integrity(path) == "ok"
        rmtree(folder)
        return outcome

    # Threads, for a disk makes them wait: every transaction is synchronous.
    with ThreadPoolExecutor(8) as pool:
        for outcome in pool.map(play, range(SEEDS, SEEDS + ON_DISK)):
            assert not outcome.violations, told(outcome)


def test_the_ledger_makes_no_difference_to_what_happens(tmp_path: Path) -> None:
    assert survive(draw(7), folder=tmp_path).log == survive(draw(7)).log


def test_the_same_seed_has_the_same_history_in_every_process() -> None:
    code = (
        "from kwanzaa_compute.testing.hostile import survive;"
        "from kwanzaa_compute.testing.schedules import draw;"
        "print('\\n'.join(survive(draw(seed)).log for seed in range(3)))"
    )
    logs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) > 1000


def test_a_replay_of_all_strikes_is_the_same_history() -> None:
    outcome = survive(draw(3))
    assert survive(draw(3), only=outcome.strikes).log == outcome.log


def test_a_violation_is_shrunk_to_what_it_needs() -> None:
    # A settle window shorter than the list's lag is a promise that the cloud does not keep.
    broken = [replace(s, settle_s=1.0) for s in map(draw, range(300)) if s.weather.list_lag_s > 40]
    outcome = next(o for o in map(survive, broken) if o.violations)
    smallest = shrink(outcome)
    assert smallest.violations
    assert len(smallest.strikes) <= min(5, len(outcome.strikes))
