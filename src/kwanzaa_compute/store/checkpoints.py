"""A run's checkpoints in the store: names, proof of wholeness, and where to go on from.

A checkpoint is a folder `checkpoints/ckpt-<step>-<attempt>/`. Its `manifest.json` is written last
and names every other file with size and sha256, so a checkpoint is whole or it is not one.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.errors import StoreMissingError
from kwanzaa_compute.store.folder import CHECKPOINTS, ResumePoint
from kwanzaa_compute.store.objects import Store

MANIFEST = "manifest.json"
TENSORS = "state.safetensors"
STATE = "state.json"
_NAME = re.compile(r"ckpt-(\d{1,12})-(\d{1,6})")


@dataclass(frozen=True, slots=True, order=True)
class CheckpointName:
    """Where a checkpoint stands: later steps sort after earlier ones, then later attempts."""

    step: int
    attempt: int

    def __str__(self) -> str:
        return f"ckpt-{self.step}-{self.attempt}"

    @property
    def prefix(self) -> str:
        """Its folder in the store."""
        return f"{CHECKPOINTS}/{self}"

    @classmethod
    def parse(cls, text: str) -> "CheckpointName | None":
        """The name in `text`; None where it is not one."""
        match = _NAME.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None


def list_checkpoints(store: Store) -> list[CheckpointName]:
    """Every checkpoint folder, whole or not, the newest first."""
    folders = {item.path.split("/")[1] for item in store.list(CHECKPOINTS) if "/" in item.path}
    names = (CheckpointName.parse(folder) for folder in folders)
    return sorted((name for name in names if name), reverse=True)


def that_count(names: Iterable[CheckpointName], point: ResumePoint | None) -> list[CheckpointName]:
    """Those that the run may go on from, in the order given; without a `point` all of them."""
    if point is None:
        return list(names)
    return [n for n in names if n.attempt > point.after or str(n) == point.checkpoint]


def fetch_checkpoint(store: Store, name: CheckpointName, target: Path) -> str:
    """Downloads a checkpoint into `target` and checks every byte; returns what is wrong, or "".

    Raises `StoreError` where the store itself fails: that says nothing about the checkpoint.
    """
    try:
        entries = _entries(store.get(f"{name.prefix}/{MANIFEST}"), name)
        for file, (digest, size) in entries.items():
            found = store.download(f"{name.prefix}/{file}", target / file)
            have = (target / file).stat().st_size
            if (found, have) != (digest, size):
                return f"{file} is not what the manifest says ({have} bytes of {size})"
    except StoreMissingError as error:
        return error.message
    except ValueError as error:
        return f"its manifest cannot be read ({error})"
    return ""


def _entries(data: bytes, name: CheckpointName) -> dict[str, tuple[str, int]]:
    """File -> (sha256, size). Raises ValueError where the manifest is not this checkpoint's."""
    try:
        manifest = json.loads(data)
        files = manifest["files"]
        named = CheckpointName(manifest["step"], manifest["attempt"])
        entries = {str(k): (str(v["sha256"]), int(v["size"])) for k, v in files.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks {error}") from error
    if not {TENSORS, STATE} <= entries.keys() or any("/" in name for name in entries):
        raise ValueError("it does not name the files of a checkpoint")
    if named != name:
        raise ValueError(f"it is that of {named}")
    return entries
