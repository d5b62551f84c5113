"""Runs of the real trainer, killed at random moments and in the middle of saving, and begun again.

Each victim must resume from a checkpoint that verifies, go on to the end, and hand over, bit for
bit, the adapter of the run that nobody disturbed.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any

import gpu_model as g

from kwanzaa_compute.store import RunFolder, open_store
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, TRAIN_DATA

VICTIMS = 2 if g.SMALL else 10
STEPS = 60
LIMIT_S = 100.0
"""For all of it: who has not ended by then is killed for good, and counts as not finished."""


def killed_at_random(book: Any) -> None:
    """Ten runs, each killed once by SIGKILL, every second one with a checkpoint half written."""
    work, until = Path(tempfile.mkdtemp(prefix="kwanzaa-kill-")), time.monotonic() + LIMIT_S
    names = ["undisturbed", *(f"victim {n}" for n in range(1, VICTIMS + 1))]
    folders = {name: _lay_out(work / name.replace(" ", "-"), work / "base") for name in names}
    found: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(len(names)) as pool:
        lives = {pool.submit(_life, book, folders[n], n, i, until): n for i, n in enumerate(names)}
        for life in as_completed(lives):
            name = lives[life]
            found[name] = life.result()
            book.note(name, **found[name])
    ended = [told for told in found.values() if told["code"] == 0]
    whole = found["undisturbed"]["adapter"]
    book.note(
        "killed at random",
        kills=sum(told["killed"] is not None for told in found.values()),
        in_a_save=sum("half written" in (told["killed"] or "") for told in found.values()),
        finished=len(ended),
        of=len(found),
        same_adapter=sum(told["adapter"] == whole is not None for told in found.values()),
    )


def _lay_out(root: Path, base: Path) -> Path:
    """A run's folder as the control side would make it."""
    from kwanzaa_trainer.tiny import make_tiny_base

    draw = random.Random(5)  # noqa: S311 -- words, not keys
    texts = [" ".join(draw.choices(["umoja", "nia", "ujima", "corn"], k=60)) for _ in range(64)]
    if not base.exists():
        make_tiny_base(base, texts)
    store = open_store(root.as_uri())
    store.put(TRAIN_DATA, "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    raw = json.loads(g.config_of(dropout=0.05).to_json())
    raw["data"]["max_seq_length"] = 128
    raw["training"] |= {"max_steps": STEPS, "gradient_accumulation_steps": 2}
    raw["run"] |= {"logging_steps": 1, "save_steps": 3}
    raw["evaluation"]["strategy"] = "no"
    raw["checkpointing"] |= {"save_steps": 3, "save_seconds": None}
    raw["monitoring"] = {"tensorboard": {"enabled": False}}
    store.put(CONFIG, json.dumps(raw).encode())
    target = root / BASE_MODEL
    target.mkdir(parents=True)
    for file in base.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return root


def _life(book: Any, root: Path, name: str, number: int, until: float) -> dict[str, Any]:
    """Runs it to its end, killing it once on the way; what was seen of it."""
    draw = random.Random(name)  # noqa: S311 -- moments, not keys
    folder, killed = RunFolder(open_store(root.as_uri())), None
    process = _start(root, 1)
    if name != "undisturbed":
        killed = _kill(process, root, folder, until, draw, in_a_save=number % 2 == 0)
        book.note(f"{name} killed", moment=killed)
        if killed is not None:
            process = _start(root, 2)
    try:
        code = process.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    log = [
        json.loads(line)
        for file in sorted((root / "attempts").glob("*/log.jsonl"))
        for line in file.read_text().splitlines()
    ]
    told = {"resumed", "damaged_checkpoint", "path", "ended"}
    adapter = folder.done() and folder.store.get("adapter/adapter_model.safetensors")
    stderr = "".join(file.read_text()[-400:] for file in root.glob("stderr-*.txt"))
    return {
        "code": code,
        "killed": killed,
        "said": [row["message"] for row in log if row["event"] in told],
        "adapter": sha256(adapter).hexdigest()[:16] if adapter else None,
        **({"stderr": stderr} if code else {}),
    }


def _start(root: Path, attempt: int) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "KWANZAA_ATTEMPT": str(attempt),
        "KWANZAA_HEARTBEAT_S": "0",
        "OMP_NUM_THREADS": "1",
        "KWANZAA_THREADS": "1",
    }
    with (root / f"stderr-{attempt}.txt").open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "kwanzaa_trainer", "run", root.as_uri()],
            env=environment,
            stdout=file,
            stderr=file,
        )


def _kill(
    process: "subprocess.Popen[bytes]",
    root: Path,
    folder: RunFolder,
    until: float,
    draw: random.Random,
    *,
    in_a_save: bool,
) -> str | None:
    """Kills it a random while after its first step, or with a checkpoint half written.

    Returns the moment; None when it ended, or time did, before it could be killed.
    """
    while (beat := folder.heartbeat(1)) is None or beat.tokens_per_second is None:
        if process.poll() is not None or time.monotonic() > until:
            return None
        time.sleep(0.005)
    time.sleep(draw.uniform(0.0, 0.8))
    while in_a_save and not _half_written(root):
        if process.poll() is not None or time.monotonic() > until:
            return None
        time.sleep(0.0005)
    if process.poll() is not None:
        return None
    process.kill()
    process.wait()
    step, left = (folder.heartbeat(1) or beat).step, _half_written(root)
    return f"at step {step}" + (f" with {', '.join(left)} half written" if left else "")


def _half_written(root: Path) -> list[str]:
    """Checkpoints without a manifest: begun and not finished."""
    begun = (root / "checkpoints").glob("*")
    return sorted(p.name for p in begun if not (p / "manifest.json").exists() and p.exists())
