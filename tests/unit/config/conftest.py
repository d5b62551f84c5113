"""What the config tests share: a minimal file and the first user's real one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.config import LoadedConfig, parse

MINIMAL = "model:\n  base_model_id: org/base\ndata:\n  train_file: train.jsonl\n"

Load = Callable[..., LoadedConfig]


@pytest.fixture
def load_text() -> Load:
    """Load the minimal file with more text after its four lines, and overrides."""

    def load(more: str = "", **overrides: object) -> LoadedConfig:
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        return parse((MINIMAL + more).encode(), Path("training.yaml"), dotted)

    return load


@pytest.fixture
def real_file() -> Path:
    """Path of the first user's training.yaml."""
    folder = os.environ.get("KWANZAA_REAL")
    if not folder:
        pytest.skip("KWANZAA_REAL is not set: the first user's training.yaml was NOT tested")
    return Path(folder) / "training.yaml"
