"""What a finished run teaches of speed, and what teaches nothing."""

from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute.calibration import _tokens_per_s, learnt_speeds
from kwanzaa_compute.compute.compute import Compute
from kwanzaa_compute.market.speed import SpeedReceipt
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.store import Done
from kwanzaa_compute.testing.samples import sample_run

STEP = 1000


def done(**summary: Any) -> Done:
    return Done(attempt=1, step=10, files={}, summary=summary)


def test_tokens_over_seconds() -> None:
    assert _tokens_per_s(done(tokens=9000, train_s=3.0, steps=10), STEP) == 3000.0


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"tokens": 9000, "train_s": 1.0, "steps": 10},  # too short to say anything
        {"tokens": 5000, "train_s": 3.0, "steps": 10},  # half of it padding
        {"tokens": 90000, "train_s": 3.0, "steps": 10},  # more than there can have been
        {"tokens": "9000", "train_s": 3.0, "steps": 10},
        {"tokens": True, "train_s": 3.0, "steps": 10},
        {"tokens": float("nan"), "train_s": 3.0, "steps": 10},
        {"tokens": -9000, "train_s": 3.0, "steps": 10},
        {"tokens": 9000, "train_s": float("inf"), "steps": 10},
    ],
)
def test_what_cannot_be_trusted_teaches_nothing(summary: dict[str, Any]) -> None:
    assert _tokens_per_s(done(**summary), STEP) is None


def test_a_speed_is_kept_once_a_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", Clock(now=lambda: 5.0))
    run = sample_run()
    ledger.add_run(run)
    first = SpeedReceipt("L4", 100.0, 90.0)
    ledger.add_speed(run.id, first)
    ledger.add_speed(run.id, SpeedReceipt("L4", 100.0, 10.0))
    assert ledger.speeds() == (first,)


def test_planning_creates_no_ledger(tmp_path: Path) -> None:
    assert learnt_speeds(Compute(home=tmp_path / "home")) == ()
    assert not (tmp_path / "home").exists()
