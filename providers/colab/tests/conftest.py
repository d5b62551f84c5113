"""A tiny run, the notebook for it, and a stand-in for what only Colab has."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from kwanzaa_compute.cli import main
from kwanzaa_compute.testing.endtoend import shared_base

STEPS, SAVE_EVERY = 60, 10
CONFIG = """\
run: {{name: by-hand, seed: 7, logging_steps: 1}}
model: {{base_model_id: {base}}}
data: {{train_file: train.jsonl, max_seq_length: 256}}
adapter: {{lora: {{r: 4, dropout: 0.0}}}}
training: {{max_steps: {steps}, per_device_train_batch_size: 2, gradient_accumulation_steps: 1}}
checkpointing: {{save_steps: {save}}}
"""
DRIVE = """\
import os
def mount(folder): os.makedirs(folder + "/MyDrive", exist_ok=True)
def flush_and_unmount(): pass
"""
USERDATA = """\
import os
class SecretNotFoundError(Exception): pass
def get(name):
    if "PANEL_" + name not in os.environ: raise SecretNotFoundError(name)
    return os.environ["PANEL_" + name]
"""
Written = Callable[..., dict]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training.yaml, data and a tiny base."""
    folder = tmp_path_factory.mktemp("project")
    rows = []
    for n in range(24):
        asked = {"role": "user", "content": f"What is {n} and {n}?"}
        rows.append({"messages": [asked, {"role": "assistant", "content": f"It is {2 * n}."}]})
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = shared_base(data, tmp_path_factory)
    text = CONFIG.format(base=base, steps=STEPS, save=SAVE_EVERY)
    (folder / "training.yaml").write_text(text)
    return folder


@pytest.fixture
def written(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Written:
    """`written("--github", "a/b")` is what `kwanzaa train --provider colab --json` says."""
    monkeypatch.setenv("KWANZAA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def write(*words: str) -> dict:
        capsys.readouterr()
        code = main(
            ["train", str(project / "training.yaml"), "--provider", "colab", *words, "--json"]
        )
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said.get("exit", said.get("error", {}).get("exit")) == code, said
        return said

    return write


@pytest.fixture(scope="session")
def colab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `google.colab`, whose Drive is a folder and whose secrets are variables."""
    folder = tmp_path_factory.mktemp("stand-in")
    package = folder / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "drive.py").write_text(DRIVE)
    (package / "userdata.py").write_text(USERDATA)
    return folder


EXECUTE = """\
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
finally:
    nbformat.write(notebook, sys.argv[2])
"""


@pytest.fixture
def executing(colab: Path, tmp_path: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    """`executing(path, machine)` begins to execute a notebook, on a machine that is a folder."""

    def begin(path: Path, machine: Path, **panel: str) -> "subprocess.Popen[bytes]":
        machine.mkdir(exist_ok=True)
        notebook = nbformat.read(path, as_version=4)
        settings = notebook.cells[1]
        places = {"NEEDS_GPU": False, "DRIVE": str(machine / "drive"), "WORK": str(machine / "vm")}
        for name, value in places.items():
            line = re.compile(rf"^{name} = \S+", re.MULTILINE)
            assert line.search(settings["source"])
            settings["source"] = line.sub(f"{name} = {value!r}", settings["source"])
        nbformat.write(notebook, machine / "edited.ipynb")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(colab),
            "OMP_NUM_THREADS": "1",
            "KWANZAA_SIMULATED_MACHINE": "1",
            "KWANZAA_HEARTBEAT_S": "0.1",
            **{f"PANEL_{name}": value for name, value in panel.items()},
        }
        words = [str(machine / "edited.ipynb"), str(machine / "executed.ipynb")]
        return subprocess.Popen(
            [sys.executable, "-c", EXECUTE, *words], env=environment, stderr=subprocess.PIPE
        )

    return begin
