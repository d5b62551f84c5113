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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpu_model as g

from kwanzaa_compute.store import RunFolder, open_store
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, TRAIN_DATA

VICTIMS, KILLS = (2, 1) if g.SMALL else (5, 2)
STEPS = 60 if g.SMALL else 400
LIMIT_S = 80.0


def killed_at_random(book: Any) -> None:
    """Ten SIGKILLs over five runs, every second one while a checkpoint is being written."""
    work = Path(tempfile.mkdtemp(prefix="kwanzaa-kill-"))
    names = ["undisturbed", *(f"victim {n}" for n in range(1, VICTIMS + 1))]
    folders = {name: _lay_out(work / name.replace(" ", "-"), work / "base") for name in names}
    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(
            zip(names, pool.map(lambda name: _life(folders[name], name), names), strict=True)
        )
    whole = found["undisturbed"].get("adapter")
    for name, told in found.items():
        adapter = told.pop("adapter", None)
        told["same_adapter"] = adapter is not None and adapter == whole
        book.note(name, **told)
    ended = [told for told in found.values() if told["code"] == 0]
    book.note(
        "killed at random",
        kills=sum(len(told["kills"]) for told in found.values()),
        finished=len(ended),
        of=len(found),
        same_adapter=sum(told["same_adapter"] for told in ended),
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


def _life(root: Path, name: str) -> dict[str, Any]:
    """Runs it to its end, killing it on the way; what was seen of it."""
    draw = random.Random(name)  # noqa: S311 -- moments, not keys
    folder, kills = RunFolder(open_store(root.as_uri())), []
    wanted = 0 if name == "undisturbed" else KILLS
    for attempt in range(1, wanted + 2):
        process = _start(root, attempt)
        if attempt <= wanted:
            kills.append(_kill(process, root, folder, attempt, draw, in_a_save=attempt % 2 == 0))
        code = process.wait(LIMIT_S)
        if code == 0:
            break
    log = [
        json.loads(line)
        for file in sorted((root / "attempts").glob("*/log.jsonl"))
        for line in file.read_text().splitlines()
    ]
    told = {"resumed", "damaged_checkpoint", "path", "ended"}
    done = folder.done()
    return {
        "code": code,
        "kills": kills,
        "said": [row["message"] for row in log if row["event"] in told],
        "adapter": done and folder.store.get("adapter/adapter_model.safetensors"),
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
    attempt: int,
    draw: random.Random,
    *,
    in_a_save: bool,
) -> str:
    """Kills it a random while after its first new step, or with a checkpoint half written."""
    until = time.monotonic() + LIMIT_S
    while (beat := folder.heartbeat(attempt)) is None or beat.tokens_per_second is None:
        if process.poll() is not None or time.monotonic() > until:
            return "never: it did not come so far"
        time.sleep(0.005)
    time.sleep(draw.uniform(0.0, 0.5))
    while in_a_save and not _half_written(root) and process.poll() is None:
        if time.monotonic() > until:
            break
    process.kill()
    process.wait()
    step = (folder.heartbeat(attempt) or beat).step
    left = _half_written(root)
    return f"at step {step}" + (f" with {', '.join(left)} half written" if left else "")


def _half_written(root: Path) -> list[str]:
    """Checkpoints without a manifest: begun and not finished."""
    begun = (root / "checkpoints").glob("*")
    return sorted(p.name for p in begun if not (p / "manifest.json").exists() and p.exists())
