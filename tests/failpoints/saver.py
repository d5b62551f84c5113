"""A trainer that only saves, in a process of its own, to be killed: `python saver.py STORE-URL`.

It goes on from the newest verified checkpoint, says each step that is safe, and ends with a done
marker at step 6.
"""

import sys
import tempfile
from pathlib import Path

from kwanzaa_compute.store import Done, RunFolder, open_store
from kwanzaa_compute.store.checkpoints import STATE, TENSORS, CheckpointName
from kwanzaa_trainer.manifest import Shelf, newest_verified

STEPS = 6


def main() -> None:
    store = open_store(sys.argv[1])
    folder = RunFolder(store)
    if folder.done() is not None:
        return
    with tempfile.TemporaryDirectory() as work:
        newest = newest_verified(store, Path(work) / "resumed", lambda text: None)
        began = newest.step if newest else 0
        say(f"began {began}")
        shelf = Shelf(store, Path(work) / "back", keep=2)
        for step in range(began + 1, STEPS + 1):
            shelf.add(CheckpointName(step, 1), files_of(Path(work), step))
            say(f"safe {step}")
            shelf.rotate(None)
    folder.put_done(Done(attempt=1, step=STEPS, files={}))


def files_of(folder: Path, step: int) -> list[Path]:
    for name in (TENSORS, STATE):
        (folder / name).write_bytes(f"{name} after step {step}".encode() * 100)
    return [folder / TENSORS, folder / STATE]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
