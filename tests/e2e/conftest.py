"""Whole runs on this machine: real processes, a real trainer, a base small enough for seconds."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from filelock import FileLock

import kwanzaa_compute as kc
from kwanzaa_trainer.tiny import make_tiny_base

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART = EXAMPLES / "quickstart"

MakeBase = Callable[[str, Iterable[str]], Path]


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """The quickstart's folder: data, schema, training.yaml."""
    return QUICKSTART


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of this test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@pytest.fixture(scope="session")
def make_base(shared_folder: Path) -> MakeBase:
    """Makes a random OLMo of one layer, whose tokenizer knows the given texts; once a name."""

    def make(name: str, texts: Iterable[str]) -> Path:
        folder = shared_folder / f"base-{name}"
        with FileLock(f"{folder}.lock"):
            if not (folder / "config.json").exists():
                make_tiny_base(folder, texts)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_base(make_base: MakeBase) -> Path:
    """A base whose tokenizer knows the quickstart's data."""
    return make_base("quickstart", [(QUICKSTART / "data" / "train.jsonl").read_text()])


@pytest.fixture
def compute(tmp_path: Path) -> kc.Compute:
    """A ledger, machines and a store of this test's own."""
    return kc.Compute(
        home=tmp_path / "home",
        environment={**os.environ, "OMP_NUM_THREADS": "1", "KWANZAA_HEARTBEAT_S": "0.1"},
    )


@pytest.fixture
def short_run(tiny_base: Path, tmp_path: Path) -> kc.Options:
    """The quickstart, on the tiny base, in a dozen steps."""
    return kc.Options(
        providers=("local",),
        overrides={
            "model.base_model_id": str(tiny_base),
            "training.max_steps": 12,
            "checkpointing.save_steps": 4,
            "evaluation.steps": 6,
            "run.logging_steps": 1,
            "adapter.lora.dropout": 0.05,
            "artifacts.output_dir": str(tmp_path / "adapter"),
        },
    )
