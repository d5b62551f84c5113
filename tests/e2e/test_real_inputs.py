"""The first user's own training.yaml and data, unchanged, from one command to an adapter."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
MakeBase = Callable[[str, Iterable[str]], Path]


def test_the_first_users_config_and_data_train_here(
    real_inputs: Path, make_base: MakeBase, tmp_path: Path
) -> None:
    samples = (real_inputs / "kwanzaa_train.jsonl").read_text().splitlines(keepends=True)
    base = make_base("real", samples)
    data = tmp_path / "data" / "training"
    data.mkdir(parents=True)
    (data / "kwanzaa_train.jsonl").write_text("".join(samples))
    # They did not publish their evaluation file.
    (data / "kwanzaa_eval.jsonl").write_text("".join(samples[-6:]))
    shutil.copy(real_inputs / "training.yaml", tmp_path)

    # Not all of its twenty steps: it saves and evaluates at the seventh and at the last.
    command = ["train", "training.yaml", "--provider", "local", "--max-steps", "8", "--yes"]
    done = subprocess.run(
        [sys.executable, "-m", "kwanzaa_compute", *command, "--json", "--base-model", str(base)],
        cwd=tmp_path,
        env={**os.environ, "KWANZAA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    adapter = tmp_path / "outputs" / "kwanzaa-adapter-v0"
    for name in (
        "adapter_config.json",
        "adapter_model.safetensors",
        "training_config.yaml",
        "training_metrics.json",
        "checksums.json",
        "README.md",
    ):
        assert (adapter / name).stat().st_size > 0, name
    # What is not applied is said, with its line.
    assert "line 17: run.dataloader_num_workers: not applied" in done.stderr
    metrics = json.loads((adapter / "training_metrics.json").read_text())
    assert metrics, "the metrics are empty"
    done_file = next((tmp_path / "home" / "store" / "runs").glob("*/done.json"))
    quality = json.loads(done_file.read_text())["summary"]["quality"]
    assert quality["asked"] > 0
    assert set(quality["rates"]) == {
        *("json_valid_rate", "citation_coverage_rate"),
        *("refusal_correctness_rate", "retrieval_groundedness_rate"),
    }
