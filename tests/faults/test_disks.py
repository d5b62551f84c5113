"""Full disks, read-only folders and a home that is none: one clear line, and nothing is lost."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.cli import main
from kwanzaa_compute.store import Done
from kwanzaa_compute.store.objects import file_sha256

SHAPE = {
    "model_type": "olmo",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 512,
}
SAMPLE = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
UNWRITABLE = "/sys/kwanzaa"  # not even root makes a folder there
WEIGHTS = b"weights" * 40_000


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KWANZAA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KWANZAA_STORE", raising=False)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(SHAPE))
    (tmp_path / "train.jsonl").write_text(SAMPLE)
    path = tmp_path / "training.yaml"
    path.write_text("model:\n  base_model_id: ./base\ndata:\n  train_file: train.jsonl\n")
    return path


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """`say("runs")` is the exit code and what went to stderr."""

    def run(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        return main([str(word) for word in words]), capsys.readouterr().err

    return run


def assert_clear(err: str) -> None:
    assert "Traceback" not in err
    assert "a fault of kwanzaa" not in err
    assert err.count("error: ") == 1
    assert "\n  -> " in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("a small disk is not here: mounting one needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def finished(config: Path) -> kc.Run:
    """A run whose adapter is complete in the store."""
    compute = kc.Compute()
    run = compute.prepare(compute.plan(config, kc.Options(providers=("local",))))
    weights = config.with_name("weights")
    weights.write_bytes(WEIGHTS)
    run.folder.store.upload(weights, "adapter/adapter_model.safetensors")
    run.folder.put_done(Done(1, 8, {"adapter_model.safetensors": file_sha256(weights)}))
    return run


@pytest.mark.parametrize("words", [("runs",), ("train", "CONFIG", "--yes"), ("show", "x")])
def test_a_home_that_is_a_file_is_one_line(
    config: Path, say: Say, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KWANZAA_HOME", str(config))
    code, err = say(*(str(config) if word == "CONFIG" else word for word in words))
    assert code == 2
    assert_clear(err)
    assert str(config) in err


def test_a_ledger_on_a_read_only_folder_is_one_line(
    config: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWANZAA_HOME", UNWRITABLE)
    code, err = say("runs")
    assert code == 2
    assert_clear(err)
    assert UNWRITABLE in err


def test_a_ledger_that_is_damaged_is_one_line(config: Path, say: Say, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ledger.sqlite").write_bytes(b"no database" * 999)
    code, err = say("runs")
    assert code == 2
    assert_clear(err)
    assert "kwanzaa doctor" in err


def test_a_store_that_cannot_be_made_leaves_no_run(config: Path, say: Say) -> None:
    store = f"file://{UNWRITABLE}"
    code, err = say("train", config, "--provider", "local", "--yes", "--store", store)
    assert code == 7
    assert_clear(err)
    assert "choose another --store" in err
    assert kc.Compute().runs() == []


def test_a_store_on_a_full_disk_leaves_no_run_and_works_with_room(
    config: Path, say: Say, small_disk: Path
) -> None:
    pad = small_disk / "pad"
    pad.write_bytes(b"\0" * 61_440)
    words = ("train", config, "--provider", "local", "--yes", "--store", f"file://{small_disk}/s")
    code, err = say(*words)
    assert code == 7
    assert "Traceback" not in err
    assert "the store failed at" in err
    assert kc.Compute().runs() == []
    pad.unlink()
    compute = kc.Compute(store=f"file://{small_disk}/s")
    assert (
        compute.prepare(compute.plan(config, kc.Options(providers=("local",)))).state == "running"
    )


def test_a_download_onto_a_read_only_folder_loses_nothing(config: Path, say: Say) -> None:
    run = finished(config)
    code, err = say("download", run.id, UNWRITABLE)
    assert code == 2
    assert_clear(err)
    assert say("download", run.id, config.with_name("fine"))[0] == 0


def test_a_download_onto_a_full_disk_loses_nothing(
    config: Path, say: Say, small_disk: Path
) -> None:
    run = finished(config)
    code, err = say("download", run.id, small_disk)
    assert code == 7
    assert "No space left" in err
    assert list(small_disk.rglob("*.*")) == [], "no half of a file"
    assert say("download", run.id, config.with_name("fine"))[0] == 0
    got: Any = config.with_name("fine") / "adapter_model.safetensors"
    assert got.read_bytes() == WEIGHTS
