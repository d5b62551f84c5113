"""Several adapters at once over one base: each learns what it learns in a run of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store.objects import Store
from kwanzaa_trainer.attempt import EXIT_APART
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop

CLOSE = 1e-5
"""Sums over more rows at once come out differently in their last bits."""
ALL = {
    "checkpointing": {"save_steps": 2, "verify_base_weights_unchanged": True},
    "data": {"packing": True},
}
"""Longer and shorter, with other ranks, rates, seeds, targets, rows a step; one stops early."""
KINDS: dict[str, dict[str, Any]] = {
    "long": {"training": {"max_steps": 7}, "adapter": {"lora": {"dropout": 0.1}}},
    "short": {
        "run": {"seed": 3},
        "training": {"max_steps": 3, "learning_rate": 5e-3, "gradient_accumulation_steps": 3},
        "adapter": {"lora": {"r": 8, "alpha": 8, "dropout": 0.0}},
    },
    "early": {
        "training": {
            "max_steps": 8,
            "learning_rate": 1e-7,
            "early_stopping": {"enabled": True, "patience": 1, "threshold": 1.0},
        },
        "adapter": {"lora": {"target_modules": ["q_proj", "down_proj"]}},
        "evaluation": {"steps": 2},
    },
}


@pytest.fixture(autouse=True)
def _silent(monkeypatch: Any) -> None:
    """What the adapter says in the end is not asked here, and takes longer than all the rest."""
    monkeypatch.setattr("kwanzaa_trainer.train.greedy_answer", lambda *_, **__: "")


@pytest.fixture(scope="module")
def make(make_run: Callable[..., Any]) -> Callable[[str], Any]:
    """`make(kind)`: a run of that kind, on the fast path."""

    def made(kind: str, **more: Any) -> Any:
        from conftest import _laid_over

        changes = _laid_over(_laid_over(ALL, KINDS[kind]), {"training": {"fast_path": "always"}})
        return make_run(**_laid_over(changes, more))

    return made
