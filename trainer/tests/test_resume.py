"""Interrupted runs: whatever ends an attempt, the run ends as if nothing had."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.folder import ResumePoint, StopRequest
from kwanzaa_compute.store.objects import ObjectStore, open_store
from kwanzaa_trainer.__main__ import _stop_on_signals
from kwanzaa_trainer.stopping import Stop

LIMIT_S = 90


def _assert_as_if_uninterrupted(run: Any, reference: Any) -> None:
    assert run.losses() == reference.losses()
    assert run.adapter() == reference.adapter()
    kept = ("base_sha256", "tokens", "eval_loss_best", "eval_loss_first", "sample")
    ours, theirs = run.done().summary, reference.done().summary
    assert {k: ours[k] for k in kept} == {k: theirs[k] for k in kept}


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_ends_bit_identical(make_run: Any, reference: Any) -> None:
    run = make_run()
    environment = os.environ | {
        "KWANZAA_ATTEMPT": "1",
        "KWANZAA_HEARTBEAT_S": "0",
        "KWANZAA_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "kwanzaa_trainer", "run", run.url],
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for_step(run, process, 9)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert run.folder.done() is None
    assert run.train(attempt=2) == 0, run.complaints()
    (resumed,) = run.events("resumed", attempt=2)
    assert resumed["step"] in (8, 12, 16, 20), "a checkpoint in mid-epoch"
    _assert_as_if_uninterrupted(run, reference)


def _wait_for_step(run: Any, process: "subprocess.Popen[bytes]", step: int) -> None:
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        beat = run.folder.heartbeat(1)
        if beat and beat.step >= step:
            return
        if process.poll() is not None:
            pytest.fail(f"it ended by itself: {process.communicate()[1].decode()[-2000:]}")
        time.sleep(0.005)
    pytest.fail(f"no step {step} within {LIMIT_S} s")


class WatchedStore(ObjectStore):
    """A real store on which a watcher asks for a stop once a heartbeat shows a certain step."""

    def __init__(self, run: Any, step: int) -> None:
        inner = open_store(run.url)
        super().__init__(run.url, inner._backend)
        self._run, self._step = run, step

    def put(self, path: str, data: bytes) -> None:
        super().put(path, data)
        if path.endswith("heartbeat.json") and json.loads(data)["step"] == self._step:
            self._run.folder.put_stop_request(StopRequest(1, "enough for today"))


def test_a_stop_request_is_obeyed_after_a_checkpoint(make_run: Any, reference: Any) -> None:
    run = make_run()
    assert run.train(store=WatchedStore(run, 5)) == 75
    failure = run.folder.failure(1)
    assert failure.stopped
    assert failure.retryable
    assert "enough for today" in failure.message
    newest = int(run.checkpoints()[0].split("-")[1])
    assert newest == run.folder.heartbeat(1).step >= 5
    # The wish was for attempt 1: the next one does not obey it.
    assert run.train(attempt=2) == 0, run.complaints()
    assert run.events("resumed", attempt=2)[0]["step"] == newest
    _assert_as_if_uninterrupted(run, reference)


class ImpatientStop(Stop):
    """Asks for a stop when it has been looked at so many times."""

    looks = 0
    patience = 0

    @property  # type: ignore[override]
    def reason(self) -> str:
        self.looks += 1
        return "impatience" if self.looks > self.patience else ""

    @reason.setter
    def reason(self, value: str) -> None:
        """Nothing is kept."""


def test_an_interrupted_evaluation_is_made_up_for(make_run: Any, reference: Any) -> None:
    run = make_run()
    stop = ImpatientStop()
    stop.patience = 4 + 6 * 2 + 1  # the evaluation at 0, six turns, one batch of the next
    assert run.train(stop=stop) == 75
    assert run.checkpoints()[0] == "ckpt-6-1"
    assert (6, "eval") not in run.losses()
    assert run.train(attempt=2) == 0, run.complaints()
    _assert_as_if_uninterrupted(run, reference)


def test_a_signal_asks_for_a_stop() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        stop = _stop_on_signals()
        assert not stop.reason
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "signal SIGTERM"
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_damaged_checkpoint_is_skipped_aloud(reference: Any, tmp_path: Path) -> None:
    run = _unfinished(reference, tmp_path)
    newest, second = run.checkpoints()[:2]
    broken = run.root / "checkpoints" / newest / "state.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    assert run.train(attempt=2) == 0, run.complaints()
    (warning,) = run.events("damaged_checkpoint", attempt=2)
    assert newest in warning["message"]
    assert run.events("resumed", attempt=2)[0]["name"] == second
    _assert_as_if_uninterrupted(run, reference)


def test_it_goes_on_from_the_checkpoint_that_the_user_chose(reference: Any, tmp_path: Path) -> None:
    run = _unfinished(reference, tmp_path)
    newest, *_, oldest = run.checkpoints()
    run.folder.put_resume_point(ResumePoint(oldest, after=1))
    stop = ImpatientStop()
    stop.patience = 6
    assert run.train(attempt=2, stop=stop) == 75, run.complaints()
    assert run.events("resumed", attempt=2)[0]["name"] == oldest
    assert newest in run.checkpoints(), "it is set aside, not deleted"
    # From now on the newest that counts is the second attempt's.
    assert run.train(attempt=3) == 0, run.complaints()
    assert run.events("resumed", attempt=3)[0]["name"].endswith("-2")
    _assert_as_if_uninterrupted(run, reference)


def test_a_chosen_checkpoint_that_got_damaged_is_never_replaced_by_another(
    reference: Any, tmp_path: Path
) -> None:
    run = _unfinished(reference, tmp_path)
    oldest = run.checkpoints()[-1]
    run.folder.put_resume_point(ResumePoint(oldest, after=1))
    (run.root / "checkpoints" / oldest / "state.json").write_text("{}")
    assert run.train(attempt=2) == 1
    failure = run.folder.failure(2)
    assert f"{oldest}, from which this run was to go on" in failure.message
    assert not failure.retryable


def test_it_never_starts_over_where_every_checkpoint_is_damaged(
    reference: Any, tmp_path: Path
) -> None:
    run = _unfinished(reference, tmp_path)
    for name in run.checkpoints():
        (run.root / "checkpoints" / name / "state.json").write_text("{}")
    assert run.train(attempt=2) == 1
    failure = run.folder.failure(2)
    assert "verifies" in failure.message
    assert not failure.retryable


def test_a_checkpoint_of_another_config_is_refused(reference: Any, tmp_path: Path) -> None:
    run = _unfinished(reference, tmp_path)
    config = json.loads(run.store.get("input/config.json"))
    config["training"]["learning_rate"] = 1e-4
    run.store.put("input/config.json", json.dumps(config).encode())
    assert run.train(attempt=2) == 1
    failure = run.folder.failure(2)
    assert "training.learning_rate" in failure.message
    assert not failure.retryable


def test_another_micro_batch_size_may_resume(reference: Any, tmp_path: Path) -> None:
    run = _unfinished(reference, tmp_path)
    config = json.loads(run.store.get("input/config.json"))
    config["training"]["per_device_train_batch_size"] = 1
    config["training"]["gradient_accumulation_steps"] = 4
    run.store.put("input/config.json", json.dumps(config).encode())
    assert run.train(attempt=2) == 0, run.complaints()


class MoodyStore(ObjectStore):
    """A real store that refuses what `refuses` says, as long as it says so."""

    def __init__(self, url: str, refuses: Any) -> None:
        super().__init__(url, open_store(url)._backend)
        self._refuses = refuses

    def put(self, path: str, data: bytes) -> None:
        self._grumble(path)
        super().put(path, data)

    def upload(self, source: Path, path: str) -> str:
        self._grumble(path)
        return super().upload(source, path)

    def _grumble(self, path: str) -> None:
        if self._refuses(path):
            raise StoreError(f"no mood for {path}")


class Recorder(MoodyStore):
    """A real store that remembers what was written, in order."""

    def __init__(self, url: str) -> None:
        self.written: list[str] = []
        super().__init__(url, self.written.append)

    def create(self, path: str, data: bytes) -> None:
        self.written.append(path)
        super().create(path, data)


def test_a_store_that_refuses_heartbeats_and_a_checkpoint_does_not_stop_the_training(
    make_run: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(training={"max_steps": 5}, checkpointing={"save_steps": 2})
    refused = ("heartbeat.json", "metrics.jsonl", "checkpoints/ckpt-2-1/state.json")
    store = MoodyStore(run.url, lambda path: path.endswith(refused))
    assert run.train(store=store) == 0, run.complaints()
    assert "ckpt-2-1" in run.events("checkpoint_failed")[0]["message"]
    assert run.done().step == 5
    assert "trying again later" in capfd.readouterr().err
    assert run.folder.heartbeat(1) is None


def test_a_store_that_refuses_the_adapter_is_a_failure_worth_another_try(make_run: Any) -> None:
    run = make_run(training={"max_steps": 2})
    store = MoodyStore(run.url, lambda path: path.startswith("adapter/"))
    assert run.train(store=store) == 1
    assert run.folder.failure(1).retryable
    assert run.folder.done() is None
    recorder = Recorder(run.url)
    assert run.train(attempt=2, store=recorder) == 0
    assert run.done().attempt == 2
    assert recorder.written[-1] == "done.json", "nothing after it counts"


def _unfinished(reference: Any, tmp_path: Path) -> Any:
    """The reference as if its machine had vanished after the last checkpoint."""
    run = reference.copy(tmp_path / "unfinished")
    run.store.delete("done.json")
    for path in (run.root / "adapter").iterdir():
        path.unlink()
    assert len(run.checkpoints()) >= 2
    return run
