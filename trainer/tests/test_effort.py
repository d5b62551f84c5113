"""MFU: the model's own work, as a share of what the card itself was seen to reach."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.effort import Effort, best_rate, effort_of, measure_ceiling
from kwanzaa_trainer.memory import Case
from kwanzaa_trainer.precision import Device, choose_precision

ROWS = Path(__file__).parents[2] / "docs/benchmarks/2026-11-24-h200-fast-3.jsonl"
OLMO = {
    "model_type": "olmo",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 50304,
}


def case(base: dict[str, Any]) -> Case:
    wanted = {"model": {"base_model_id": "a/b"}, "data": {"train_file": "t.jsonl"}}
    return Case(TrainingConfig.model_validate(wanted), base, "bf16", "")


def test_the_benchmark_s_own_row_comes_out_as_it_was_published() -> None:
    """18,109 tokens/s of 28.34 GFLOP; recomputation would change nothing."""
    rows = map(json.loads, ROWS.read_text(encoding="utf-8").splitlines())
    row = next(row for row in rows if row["name"] == "bf16 none x8")
    effort = effort_of(case(OLMO), [2048] * 10, 776.4)
    assert effort is not None
    assert effort.flops_per_token / 1e9 == pytest.approx(row["model_gflop_per_token"], rel=0.001)
    assert effort.mfu_percent(row["tok_s"]) == pytest.approx(66.1, abs=0.1)
    assert effort_of(case(OLMO), [2048], 776.4, processes=2) == Effort(
        effort.flops_per_token, 2 * 776.4
    )


def test_packed_samples_count_for_what_attention_really_does() -> None:
    short, full = (effort_of(case(OLMO), [n] * 9, 700.0) for n in (300, 2048))
    assert short is not None and full is not None  # noqa: PT018 -- for the type checker
    assert 0.94 < short.flops_per_token / full.flops_per_token < 0.97


def test_without_a_gpu_or_a_shape_there_is_no_figure_rather_than_a_wrong_one(
    reference: Any,
) -> None:
    cpu = Device("CPU")
    assert measure_ceiling(cpu, choose_precision("bf16", cpu), Clock()) is None
    assert effort_of(case(OLMO), [2048], None) is None
    assert effort_of(case({}), [2048], 700.0) is None
    assert all("mfu_percent" not in row for row in reference.folder.metrics())
    assert reference.done().summary["mfu_percent"] is None
    assert "MFU" not in reference.events("step")[0]["message"]


def test_the_ceiling_is_the_quickest_product_after_a_warm_up_and_soon_found() -> None:
    took, made = [9.0, 0.2, 0.05, 0.1, 0.1], count()
    at = 0.0

    def multiply() -> None:
        nonlocal at
        at += took[next(made)]

    assert best_rate(multiply, 10.0, lambda: at) == pytest.approx(10.0 / 0.05)
    assert next(made) == 4, "it stops when its time is up"
