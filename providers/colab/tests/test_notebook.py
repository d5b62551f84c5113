"""The notebook: what it is, and that it trains for real, also when it is killed in the middle."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest

from kwanzaa_compute.drivers.handover import Handover
from kwanzaa_compute.errors import NothingFitsError, UsageError
from kwanzaa_compute.store.objects import file_sha256
from kwanzaa_compute_colab import in_colab
from kwanzaa_compute_colab.notebook import MOST_BYTES, write_notebook

PATIENCE_S = 120.0
Written = Callable[..., dict]
Executing = Callable[..., "subprocess.Popen[bytes]"]
SECRET = "hf_nobodyshouldeverseethis"


def until(holds: Callable[[], object], what: str) -> None:
    last = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < last, what
        time.sleep(0.05)


def finished(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    said = process.communicate(timeout=PATIENCE_S)[1].decode()
    return process.returncode, said


def succeeds(process: "subprocess.Popen[bytes]") -> bool:
    code, trouble = finished(process)
    assert code == 0, trouble
    return True


def lose_the_machine(process: "subprocess.Popen[bytes]", machine: Path) -> None:
    """SIGKILL for the kernel and all that it started: a disconnect takes the whole machine."""
    kernel = psutil.Process(process.pid).children()[0]
    trainer = psutil.Process(int((machine / "vm" / "pid").read_text()))
    for one in [kernel, trainer, *trainer.children(recursive=True)]:
        os.kill(one.pid, signal.SIGKILL)


@pytest.mark.slow
def test_killed_in_the_middle_and_executed_again_it_yields_the_same_adapter(
    written: Written, executing: Executing, tmp_path: Path
) -> None:
    said = written()
    assert "notebook" in said, said
    notebook = Path(said["notebook"])
    whole, lost = tmp_path / "whole", tmp_path / "lost"
    assert succeeds(executing(notebook, whole))

    run = lost / "drive" / "MyDrive" / "kwanzaa" / said["run"]
    process = executing(notebook, lost)
    until(lambda: list(run.glob("checkpoints/*/manifest.json")), "a checkpoint")
    lose_the_machine(process, lost)
    code, trouble = finished(process)
    assert code != 0, trouble
    assert "DeadKernelError" in trouble
    assert not (run / "done.json").exists()
    assert succeeds(executing(notebook, lost))

    adapter = "adapter/adapter_model.safetensors"
    reference = whole / "drive" / "MyDrive" / "kwanzaa" / said["run"]
    assert file_sha256(run / adapter) == file_sha256(reference / adapter)
    rows = (run / "attempts" / "2" / "metrics.jsonl").read_text().splitlines()
    assert min(json.loads(row)["step"] for row in rows) > 1  # it did not begin again

    executed = nbformat.read(lost / "executed.ipynb", as_version=4)
    shown = "".join(o.get("text", "") for cell in executed.cells for o in cell.get("outputs", []))
    assert "finished at step" in shown
    assert f"the adapter is in {run.as_uri()}/adapter" in shown


def test_it_is_valid_without_output_and_without_any_secret(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "KWANZAA_MODEL_TOKEN", "RUNPOD_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    said = written()
    text = Path(said["notebook"]).read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    payload = re.search(r'"""\n(.*)\n"""', code[1].source, re.DOTALL)
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(payload[1])))
    contents = [text.encode(), *(archive.read(name) for name in archive.namelist())]
    assert not [one for one in contents if SECRET.encode() in one]
    assert {"code.zip", "files/input/config.json", "files/input/train.jsonl"} <= {
        *archive.namelist()
    }
    assert notebook.metadata["colab"]["gpuType"] == said["gpu"] == "T4"
    assert said["link"] is None


def test_with_a_remote_store_it_names_the_secrets_that_its_owner_adds() -> None:
    made = write_notebook(handover(store_url="s3://bucket/runs/r1", needed=("AWS_ACCESS_KEY_ID",)))
    assert "`AWS_ACCESS_KEY_ID`" in made.text


def test_the_link_opens_it_where_it_is_published(written: Written) -> None:
    assert written("--github", "me/notebooks/main/colab")["link"].startswith(
        "https://colab.research.google.com/github/me/notebooks/blob/main/colab/by-hand-"
    )
    made = write_notebook(handover(publish_at="me/notebooks"))
    assert made.link.endswith("/github/me/notebooks/blob/main/r1.ipynb")
    assert made.link in nbformat.reads(made.text, as_version=4).cells[0].source
    with pytest.raises(UsageError, match="names no repository"):
        write_notebook(handover(publish_at="me"))


def test_what_is_too_large_for_a_notebook_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="MiB") as refused:
        write_notebook(handover(files={"input/train.jsonl": os.urandom(MOST_BYTES)}))
    assert "--store" in refused.value.mend


@pytest.mark.parametrize(("vram_gib", "gpu"), [(4, "T4"), (14.9, "L4"), (30, "A100"), (60, "H100")])
def test_the_smallest_gpu_that_is_large_enough_is_asked_for(vram_gib: float, gpu: str) -> None:
    made = write_notebook(handover(vram_gib=vram_gib))
    assert made.gpu == gpu
    assert nbformat.reads(made.text, as_version=4).metadata["colab"]["gpuType"] == gpu


@pytest.mark.parametrize("changes", [{"vram_gib": 500.0}, {"gpu": "MI300X"}])
def test_a_run_that_fits_nowhere_is_refused(changes: dict) -> None:
    with pytest.raises(NothingFitsError):
        write_notebook(handover(**changes))


def handover(**changes: object) -> Handover:
    given = {"run_id": "r1", "title": "a run", "argv": ("python3", "-c", "pass"), "code": b"zip"}
    return Handover(**{**given, **changes})


# ---- what its cells do ---------------------------------------------------------------------------


def test_a_trainer_of_an_earlier_kernel_is_asked_to_stop_and_waited_for(tmp_path: Path) -> None:
    script = (
        "import signal, sys, time  # KWANZAA_BOOT\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    record = tmp_path / "pid"
    record.write_text(str(process.pid))
    in_colab.end_earlier(record)
    assert process.wait(PATIENCE_S) == 75
    process.stdout.close()
    assert not record.exists()


def test_a_process_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "pid"
    record.write_text(str(os.getpid()))
    in_colab.end_earlier(record)
    assert not record.exists()


def test_a_secret_that_is_missing_is_named(colab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "from kwanzaa_compute_colab.in_colab import rights\n"
        "print(rights({'needed': ['A'], 'optional': ['B', 'C']}))\n"
        "rights({'needed': ['MISSING'], 'optional': []})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(colab), "PANEL_A": "1", "PANEL_B": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "{'A': '1', 'B': '2'}"
    assert "add MISSING in the Secrets panel" in done.stderr


def test_without_a_gpu_it_says_where_to_choose_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="Change runtime type > T4"):
        in_colab.prepare({"gpu": "T4", "store_url": ""}, "", str(tmp_path), "", True)
