"""Whole runs of the trainer on two cards: beside one card's, resumed on one, and with a death."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_model as g

from kwanzaa_compute.store import RunFolder, open_store
from kwanzaa_compute.store.checkpoints import list_checkpoints
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, TRAIN_DATA

LAYERS = 4
STEPS = 8
SAVED_AT = 4
LIMIT_S = 500.0 if g.SMALL else 100.0
"""For one attempt."""


@dataclass(frozen=True)
class Ended:
    """How an attempt went."""

    code: int
    seconds: float
    seconds_after_kill: float | None = None


def whole_runs(book: Any) -> None:
    """All of it, at once: nothing here is timed but how long a death takes to be noticed."""
    work = Path(tempfile.mkdtemp(prefix="kwanzaa-team-"))
    _make_base(work / "base")
    book.note("base on disk", layers=2 if g.SMALL else LAYERS)
    roots = {
        name: _lay_out(work, name, shard_base=wish)
        for name, wish in {
            "one card": "never",
            "two cards": "never",
            "in pieces": "always",
            "killed": "never",
        }.items()
    }
    with ThreadPoolExecutor(4) as pool:
        first = {
            name: pool.submit(_attempt, root, 1, 1 if name == "one card" else 2, name == "killed")
            for name, root in roots.items()
        }
        for name, attempt in first.items():
            _tell(book, name, roots[name], attempt.result())
        resumed = {
            f"{name}, resumed on one card": _until(roots[name], SAVED_AT)
            for name in ("two cards", "in pieces")
        }
        second = {
            "killed, resumed on two cards": (roots["killed"], 2),
            **{name: (root, 1) for name, root in resumed.items()},
        }
        going = {n: pool.submit(_attempt, root, 2, cards) for n, (root, cards) in second.items()}
        for name, attempt in going.items():
            _tell(book, name, second[name][0], attempt.result())
    _compare(book, {**roots, **resumed})


def _make_base(folder: Path) -> None:
    if g.SMALL:
        from kwanzaa_trainer.tiny import make_tiny_base

        make_tiny_base(folder, ["umoja nia ujima corn"])
        return
    from gpu_reference import make_base

    make_base(folder, LAYERS)


def _lay_out(work: Path, name: str, *, shard_base: str) -> Path:
    """A run's folder as the control side would make it."""
    root = work / name.replace(" ", "-")
    store = open_store(root.as_uri())
    draw = random.Random(5)  # noqa: S311 -- words, not keys
    rows = ["".join(draw.choices("abcdefgh ", k=g.ROW - 1)) for _ in range(64)]
    store.put(TRAIN_DATA, "".join(json.dumps({"text": row}) + "\n" for row in rows).encode())
    raw = json.loads(g.config_of(dropout=0.0).to_json())
    raw["training"] |= {"max_steps": STEPS, "shard_base": shard_base, "memory_plan": "as_written"}
    raw["training"] |= {"fast_path": "never"}
    raw["run"] |= {"logging_steps": 1, "save_steps": 2, "save_total_limit": 10}
    raw["evaluation"]["strategy"] = "no"
    raw["checkpointing"] |= {"save_steps": 2, "save_total_limit": 10, "save_seconds": None}
    raw["monitoring"] = {"tensorboard": {"enabled": False}}
    store.put(CONFIG, json.dumps(raw).encode())
    target = root / BASE_MODEL
    target.mkdir(parents=True)
    for file in (work / "base").iterdir():
        (target / file.name).hardlink_to(file)
    return root


def _attempt(root: Path, number: int, cards: int, kills: bool = False) -> Ended:  # noqa: FBT001, FBT002
    """One attempt on so many cards; one that kills ends the second process at the third step."""
    threads = "1" if g.SMALL else "4"
    environment = os.environ | {
        "KWANZAA_ATTEMPT": str(number),
        "KWANZAA_HEARTBEAT_S": "0",
        "KWANZAA_WORK": str(root / "work"),
        "OMP_NUM_THREADS": threads,
        "KWANZAA_THREADS": threads,
        # The trainer starts a process for each card that it sees, make-believe ones included.
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(cards))),
    }
    command = [sys.executable, "-m", "kwanzaa_trainer", "run", root.as_uri()]
    started, killed = time.monotonic(), None
    with (root / f"stderr-{number}.txt").open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    if kills:
        killed = _kill_the_second(process, root, started + LIMIT_S)
    try:
        code = process.wait(max(1.0, started + LIMIT_S - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()
        code = -1
    ended = time.monotonic()
    return Ended(code, round(ended - started, 1), killed and round(ended - killed, 1))


def _kill_the_second(process: Any, root: Path, until: float) -> float | None:
    """When the process of rank 1 was killed; None where the run or the time ended before."""
    folder = RunFolder(open_store(root.as_uri()))
    while (beat := folder.heartbeat(1)) is None or (beat.step or 0) < SAVED_AT - 1:
        if process.poll() is not None or time.monotonic() > until:
            return None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [n for n in children if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
    os.kill(sorted(map(int, workers))[1], 9)
    return time.monotonic()


def _until(root: Path, step: int) -> Path:
    """A copy of a run that is done, as it stood after that step's checkpoint."""
    copy = root.with_name(f"{root.name}-resumed")
    shutil.copytree(root, copy, copy_function=os.link, ignore=shutil.ignore_patterns("work"))
    (copy / "done.json").unlink(missing_ok=True)
    shutil.rmtree(copy / "adapter", ignore_errors=True)
    store = open_store(copy.as_uri())
    for name in list_checkpoints(store):
        if name.step > step:
            shutil.rmtree(copy / "checkpoints" / str(name))
    return copy


def _tell(book: Any, name: str, root: Path, ended: Ended) -> None:
    """What an attempt has left behind."""
    folder = RunFolder(open_store(root.as_uri()))
    number = 2 if "resumed" in name else 1
    log = root / f"attempts/{number}/log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    told = {"memory", "path", "resumed", "ended", "finished"}
    failure, beat = folder.failure(number), folder.heartbeat(number)
    errors = (root / f"stderr-{number}.txt").read_text()[-1500:]
    book.note(
        name,
        code=ended.code,
        seconds=ended.seconds,
        seconds_after_kill=ended.seconds_after_kill,
        said=[row["message"] for row in rows if row["event"] in told],
        gpu_memory_gib=beat and beat.gpu_memory_gib,
        failure=failure and {"says": failure.message[:300], "retryable": failure.retryable},
        **({"stderr": errors} if ended.code and ended.seconds_after_kill is None else {}),
    )


def _compare(book: Any, roots: dict[str, Path]) -> None:
    """Every run's losses beside the one card's."""
    losses = {name: _losses(root) for name, root in roots.items()}
    one = losses["one card"]
    for name, found in losses.items():
        both = sorted(found.keys() & one.keys())
        book.note(
            f"losses: {name}",
            steps=len(found),
            of=STEPS,
            losses=[round(found[step], 5) for step in sorted(found)],
            differ_at_most_by=max((abs(found[s] / one[s] - 1) for s in both), default=None),
        )


def _losses(root: Path) -> dict[int, float]:
    rows = RunFolder(open_store(root.as_uri())).metrics()
    return {int(row["step"]): float(row["loss"]) for row in rows if row["kind"] == "train"}
