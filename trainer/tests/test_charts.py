"""Curves at Weights & Biases: written by its library, read by its own reader, never in the way."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.store.folder import RunFolder
from kwanzaa_compute.store.objects import open_store
from kwanzaa_trainer import loading, weights_and_biases
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.weights_and_biases import KEY, WeightsAndBiases

SHORT = {"training": {"max_steps": 2}, "evaluation": {"steps": 2}, "data": {"packing": False}}


def records(path: Path) -> list[Any]:
    """All records of a W&B file, by the reader and the types of its own library."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    found = []
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        found.append(record)
    store.close()
    return found


def history(path: Path) -> list[dict[str, Any]]:
    """Every row that was logged."""
    rows = [r.history for r in records(path) if r.WhichOneof("record_type") == "history"]
    return [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item}
        for row in rows
    ]


def wandb_files(run: Any, attempt: int) -> list[Path]:
    return sorted((run.root / f"attempts/{attempt}/wandb").rglob("*.wandb"))


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """A server on loopback that refuses whatever it is asked, and what that was."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


def test_the_curves_of_a_run_are_read_by_the_library_s_own_reader(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key it is offline, and W&B's run is called as ours is, in each attempt."""
    monkeypatch.delenv(KEY)
    monkeypatch.setattr(loading, "measure_ceiling", lambda *_: 0.001)
    run = make_run(**SHORT, monitoring={"wandb": {"enabled": True, "project": "umoja"}})
    assert run.train() == 0, run.complaints()
    (event,) = run.events("wandb")
    assert event["mode"] == "offline"
    (path,) = wandb_files(run, 1)
    (told,) = [r.run for r in records(path) if r.WhichOneof("record_type") == "run"]
    assert (told.run_id, told.project) == (run.root.name, "umoja")
    assert {item.key for item in told.config.update} > {"training", "adapter", "data"}
    rows = [row for row in history(path) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    exact = [float.fromhex(hexed) for (_, kind), hexed in run.losses().items() if kind == "train"]
    assert [row["train/loss"] for row in rows] == exact
    # On a GPU that is said to reach no more than a GFLOP/s even the tiny model's work shows.
    told = [row for row in run.folder.metrics() if row["kind"] == "train"]
    assert [row["train/mfu_percent"] for row in rows] == [row["mfu_percent"] for row in told]
    work = [row["mfu_percent"] / 100 * 1e9 / row["tokens_per_second"] for row in told]
    assert all(4 * (106_496 + 20_480) < flops < 4.8 * (106_496 + 20_480) for flops in work)
    assert "% MFU" in run.events("step")[0]["message"]
    assert run.done().summary["mfu_percent"] > 0
    assert any("eval/perplexity" in row for row in history(path))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal whose run is called `r-1`."""
    journal = Journal(RunFolder(open_store(f"file://{tmp_path / 'r-1'}")), 1, 0.0, Clock())
    yield journal
    journal.close()


def curves(journal: Journal, folder: Path) -> WeightsAndBiases:
    wanted = {"model": {"base_model_id": "a/b"}, "data": {"train_file": "t.jsonl"}}
    config = TrainingConfig.model_validate({**wanted, "run": {"report_to": ["wandb"]}})
    assert (config.writes_wandb, config.writes_tensorboard) == (True, False)
    return WeightsAndBiases(config, folder, journal.folder.run_id, journal, os.environ)


def said(journal: Journal, event: str) -> list[dict[str, Any]]:
    journal.flush()
    told = map(json.loads, journal.folder.store.get("attempts/1/log.jsonl").splitlines())
    return [record for record in told if record["event"] == event]


def test_a_server_that_cannot_be_used_is_said_and_the_files_hold_the_curves(
    journal: Journal,
    tmp_path: Path,
    server: tuple[str, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The key is in the environment here, as on a machine that was given it."""
    url, asked = server
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv(KEY, "k3y" * 20)
    monkeypatch.setattr(weights_and_biases, "PATIENCE_S", 3.0)
    made = curves(journal, tmp_path)
    for step in (1, 2):
        made.add("train", step, {"loss": 1 / step})
    monkeypatch.setattr(weights_and_biases, "PATIENCE_S", 60.0)
    made.close()
    assert any(b"r-1" in body for body in asked), "its server was asked for the run of our id"
    assert [event["mode"] for event in said(journal, "wandb")] == ["offline"]
    assert said(journal, "wandb_failed")
    (path,) = [path for path, name in made.files() if name.startswith("offline-run-")]
    assert [(row["step"], row["train/loss"]) for row in history(path)] == [(1, 1.0), (2, 0.5)]
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if b"k3yk3y" in path.read_bytes()] == []


def test_without_the_library_it_says_once_what_to_install(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    made = curves(journal, tmp_path)
    for step in (1, 2):
        made.add("train", step, {"loss": 1.0})
    made.close()
    (event,) = said(journal, "wandb_failed")
    assert 'pip install "kwanzaa-trainer[wandb]"' in event["message"]
