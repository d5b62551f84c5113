"""What the config tests share: a minimal file and the first user's real one."""

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
def real_file(real_inputs: Path) -> Path:
    """Path of the first user's training.yaml."""
    return real_inputs / "training.yaml"
