"""A run of several adapters: who trains where and when, what stops it, and what is told of it.

The members' trainers are real processes, but learn nothing: a run of real ones is in tests/e2e.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.folder import (
    CONFIG,
    Done,
    Heartbeat,
    RunFolder,
    StopRequest,
    member_url,
)
from kwanzaa_compute.store.objects import open_store
from kwanzaa_trainer.attempt import run_attempt
from kwanzaa_trainer.members import EXIT_APART, Member, companies, places
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop

LIMIT_S = 60
ENDS = ("begins", "is done")
TRAINER = f'''#!{sys.executable}
"""Does what `does` in its folder says: beat, wait for others or a signal, then end."""

import json, os, signal, sys, time
from kwanzaa_compute.store import Done, Failure, Heartbeat, RunFolder, open_store

assert sys.argv[1:4] == ["-m", "kwanzaa_trainer", "run"]
if len(sys.argv) > 5:
    sys.exit({EXIT_APART})
folder = RunFolder(open_store(sys.argv[4]))
does = json.loads(folder.store.get("does"))
attempt = int(os.environ["KWANZAA_ATTEMPT"])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
work = os.environ["KWANZAA_WORK"]
os.makedirs(work)


def beat(sequence, step):
    folder.put_heartbeat(
        Heartbeat(sequence, "train", attempt, step, 4, tokens=10 * step, eta_s=3.0 - step,
                  checkpoint=f"ckpt-{{step}}-{{attempt}}")
    )


def wait_for(what):
    until = time.monotonic() + {LIMIT_S}
    while not what() and time.monotonic() < until:
        time.sleep(0.01)


beat(1, 1)
if "together_with" in does:
    other = RunFolder(open_store(does["together_with"]))
    wait_for(lambda: other.heartbeat(attempt) is not None)
if does.get("until_stopped"):
    wait_for(lambda: asked)
    folder.put_failure(Failure(attempt, "stopped: signal SIGTERM", True, stopped=True))
    sys.exit(75)
if does.get("dies"):
    os.kill(os.getpid(), signal.SIGKILL)
if "fails" in does:
    stopped = does.get("stopped", False)
    folder.put_failure(Failure(attempt, does["fails"], stopped, "mend it", stopped))
    sys.exit(75 if stopped else 1)
beat(2, 4)
folder.put_done(Done(attempt, 4, {{"w": "00"}}, {{"gpu": gpu, "began": does.get("note", "")}}))
'''


@pytest.fixture(autouse=True)
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the trainer that learns nothing in the place of the real one."""
    script = tmp_path / "trainer"
    script.write_text(TRAINER)
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class Sweep:
    """A run whose members do as they are told."""

    def __init__(self, root: Path, **members: dict[str, Any]) -> None:
        self.store = open_store(f"file://{root}/run")
        self.folder = RunFolder(self.store)
        self.folder.put_member_names(list(members))
        self.work = root / "work"
        for name, does in members.items():
            self.member(name).store.put("does", json.dumps(does).encode())

    def member(self, name: str) -> RunFolder:
        return RunFolder(open_store(member_url(self.store.url, name)))

    def train(self, attempt: int = 1, stop: Stop | None = None) -> int:
        settings = Settings(attempt=attempt, heartbeat_s=0.0, work=self.work)
        return run_attempt(self.store, settings, Clock(), stop or Stop())

    def done(self) -> Done:
        done = self.folder.done()
        assert done is not None
        return done

    def beat(self, attempt: int = 1) -> Heartbeat | None:
        return self.folder.heartbeat(attempt)


def test_in_one_place_they_are_trained_in_turn_and_told_of_together(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, a={}, b={})
    assert sweep.train() == 0
    done, beat = sweep.done(), sweep.beat()
    assert done.step == 8
    assert done.files == {"a/w": "00", "b/w": "00"}
    assert list(done.summary["members"]) == ["a", "b"]
    assert beat is not None
    assert (beat.step, beat.total_steps, beat.member) == (8, 8, "b")
    log = [json.loads(line) for line in sweep.store.get("attempts/1/log.jsonl").splitlines()]
    told = [row["message"] for row in log if row["event"] == "member"]
    assert told == ["a begins", "a is done", "b begins", "b is done"]
    assert not any(sweep.work.iterdir()), "a member's copies are no longer needed"


def test_each_gpu_trains_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were `a` and `b` trained in turn, `a` would wait for `b` until its time is up."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    sweep = Sweep(tmp_path, a={}, b={}, c={})
    for one, other in (("a", "b"), ("b", "a")):
        url = sweep.member(other).store.url
        sweep.member(one).store.put("does", json.dumps({"together_with": url}).encode())
    began = time.monotonic()
    assert sweep.train() == 0
    assert time.monotonic() - began < LIMIT_S
    gpus = [learnt["gpu"] for learnt in sweep.done().summary["members"].values()]
    assert gpus[:2] == ["4", "7"]
    assert gpus[2] in {"4", "7"}


def _of_base(sweep: Sweep, name: str, base: str, **training: Any) -> None:
    wish = {"fast_path": "always", **training}
    raw = {"model": {"base_model_id": base}, "data": {"train_file": "t"}, "training": wish}
    config = TrainingConfig.model_validate(raw)
    sweep.member(name).store.put(CONFIG, config.to_json())


def test_members_of_one_base_share_a_process_and_part_where_it_cannot_train_them(
    tmp_path: Path,
) -> None:
    sweep = Sweep(tmp_path, a={}, b={}, c={}, d={})
    for name, base in (("a", "one/base"), ("b", "another/base"), ("c", "one/base")):
        _of_base(sweep, name, base, learning_rate=0.1 if name == "a" else 0.2)
    _of_base(sweep, "d", "one/base", adapters_at_once=1)
    assert sweep.train() == 0
    log = [json.loads(line) for line in sweep.store.get("attempts/1/log.jsonl").splitlines()]
    told = [row["message"] for row in log if row["event"] == "member"]
    assert told[:4] == [
        *("a begins", "c begins"),
        *("a is to be trained alone", "c is to be trained alone"),
    ]
    assert sorted(told[4:]) == sorted(f"{name} {does}" for name in "abcd" for does in ENDS)
    members = [Member(name, sweep.member(name)) for name in "abcd"]
    assert [[m.name for m in some] for some in companies(members, 2)] == [
        ["a"],
        ["c"],
        ["b"],
        ["d"],
    ]


@pytest.mark.parametrize(
    ("visible", "found"),
    [("0,1", ("0", "1")), ("3", ("",)), ("", ("",)), ("GPU-a, GPU-b", ("GPU-a", "GPU-b"))],
)
def test_places_are_the_visible_gpus(visible: str, found: tuple[str, ...]) -> None:
    assert places({"CUDA_VISIBLE_DEVICES": visible}) == found


@pytest.mark.parametrize(("cards", "found"), [(0, ("",)), (1, ("",)), (3, ("0", "1", "2"))])
def test_without_a_choice_all_gpus_that_the_driver_lists_are_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: int, found: tuple[str, ...]
) -> None:
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\n" + "echo 'NVIDIA A100-SXM4-80GB, 81559'\n" * cards)
    driver.chmod(0o700)
    monkeypatch.setenv("PATH", str(driver.parent))
    assert places({}) == found


def test_a_stop_reaches_the_running_one_and_the_next_never_begins(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, a={"until_stopped": True}, b={})
    asking = threading.Thread(target=_ask_once_it_beats, args=(sweep,))
    asking.start()
    assert sweep.train() == 75
    asking.join()
    failure = sweep.folder.failure(1)
    assert failure is not None
    assert failure.stopped
    assert failure.message == "stopped: enough"
    assert sweep.member("b").attempts() == []
    for name in ("a", "b"):
        sweep.member(name).store.put("does", b"{}")
    assert sweep.train(attempt=2) == 0
    assert sweep.done().attempt == 2


def _ask_once_it_beats(sweep: Sweep) -> None:
    until = time.monotonic() + LIMIT_S
    while sweep.member("a").heartbeat(1) is None and time.monotonic() < until:
        time.sleep(0.01)
    sweep.folder.put_stop_request(StopRequest(1, "enough"))


def test_a_stop_before_the_first_begins_none(tmp_path: Path) -> None:
    sweep, stop = Sweep(tmp_path, a={}, b={}), Stop()
    stop.ask("signal SIGTERM")
    assert sweep.train(stop=stop) == 75
    assert sweep.member("a").attempts() == []


def test_a_stop_that_reached_a_member_alone_is_a_stop_of_the_run(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, a={"fails": "stopped: signal SIGTERM", "stopped": True}, b={})
    assert sweep.train() == 75
    failure = sweep.folder.failure(1)
    assert failure is not None
    assert failure.stopped


def test_one_that_fails_for_good_fails_the_run_after_the_others_are_done(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, bad={"fails": "no such base"}, good={})
    assert sweep.train() == 1
    failure = sweep.folder.failure(1)
    assert failure is not None
    assert failure.message == "bad: no such base (done: good)"
    assert failure.mend == "mend it"
    assert not failure.retryable
    assert sweep.folder.done() is None
    assert sweep.member("good").done() is not None


def test_one_that_dies_is_tried_again_and_what_is_done_is_left_alone(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, a={}, b={"dies": True})
    assert sweep.train() == 1
    failure = sweep.folder.failure(1)
    assert failure is not None
    assert failure.retryable
    assert failure.message == f"b: its trainer ended with code {-signal.SIGKILL} (done: a)"
    sweep.member("b").store.put("does", b"{}")
    assert sweep.train(attempt=2) == 0
    assert sweep.member("a").attempts() == [1]
    assert sweep.member("b").attempts() == [1, 2]
    assert sweep.train(attempt=3) == 0, "a finished run has nothing left to do"


def test_the_runs_heart_is_silent_while_no_member_moves(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, a={"until_stopped": True})
    stop, heard = Stop(), list[int]()

    def listen() -> None:
        _wait_until(lambda: (beat := sweep.beat()) is not None and beat.step == 1)
        for _ in range(20):
            beat = sweep.beat()
            heard.append(beat.sequence if beat else -1)
            time.sleep(0.02)
        stop.ask("heard enough")

    listener = threading.Thread(target=listen)
    listener.start()
    assert sweep.train(stop=stop) == 75
    listener.join()
    assert len(set(heard)) == 1


def _wait_until(what: Any) -> None:
    until = time.monotonic() + LIMIT_S
    while not what() and time.monotonic() < until:
        time.sleep(0.01)


def children_of_ours() -> set[int]:
    """The processes that this one has started: other tests' servers may be among them."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(map(int, listing.split()))


def test_nothing_is_left_behind_when_the_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome of a member cannot be read: the attempt fails, and takes the others along."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    sweep = Sweep(tmp_path, a={}, b={"until_stopped": True})
    read, children, others = RunFolder.failure, set[int](), children_of_ours()

    def broken(self: RunFolder, attempt: int) -> Any:
        if self.store.url.endswith("/a"):
            children.update(children_of_ours() - others)
            raise StoreError("the store is away")
        return read(self, attempt)

    monkeypatch.setattr(RunFolder, "failure", broken)
    sweep.member("a").store.put("does", b'{"dies": true}')
    assert sweep.train() == 1
    assert children
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'["../x"]', b'["a", 7]', b'"a"'])
def test_a_damaged_list_of_members_never_passes_for_a_run_of_one(
    tmp_path: Path, content: bytes
) -> None:
    sweep = Sweep(tmp_path, a={})
    sweep.store.put("members.json", content)
    assert sweep.train() == 1
    failure = sweep.folder.failure(1)
    assert failure is not None
    assert failure.retryable
    assert "members.json" in failure.message
