"""The examples, run as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(quickstart: Path, tiny_base: Path, tmp_path: Path) -> Path:
    """A folder with the quickstart where the examples look for it, cut to a few steps."""
    copy = tmp_path / "examples" / "quickstart"
    shutil.copytree(quickstart, copy, ignore=shutil.ignore_patterns("base", "__pycache__"))
    (copy / "base").symlink_to(tiny_base)
    text = (copy / "training.yaml").read_text()
    short, count = re.subn(r"(?m)^training:$", "training:\n  max_steps: 48", text)
    assert count == 1
    (copy / "training.yaml").write_text(short)
    return tmp_path


def run(project: Path, *arguments: str) -> str:
    """What a Python process prints in the project; it must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={
            **os.environ,
            "KWANZAA_HOME": str(project / "home"),
            "KWANZAA_HEARTBEAT_S": "0.1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_run_one_after_the_other(project: Path) -> None:
    examples = ROOT / "examples"
    plan = run(project, str(examples / "01_plan.py"))
    assert re.search(r"386 samples.*\nlocal +CPU +\d+\.\d+ h +\$0\.00", plan)
    assert "offers refused" in plan
    train = run(project, str(examples / "02_train.py"))
    assert "adapter:" in train
    assert (project / "outputs" / "quickstart" / "adapter_model.safetensors").exists()
    resume = run(project, str(examples / "03_resume.py"))
    assert re.search(r"stopped: stopped after a checkpoint\nnewest checkpoint: ckpt-\d+-1", resume)
    assert "done after 2 attempts" in resume
    receipt = run(project, str(examples / "04_receipt.py"))
    assert receipt.count("done,") == 2
