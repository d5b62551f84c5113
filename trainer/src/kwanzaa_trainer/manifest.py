"""Checkpoints as objects in the store: names, proof of wholeness, choice and rotation. No torch.

A checkpoint is a folder `checkpoints/ckpt-<step>-<attempt>/`. Its `manifest.json` is written last
and names every other file with size and sha256, so a checkpoint is whole or it is not one.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kwanzaa_compute.errors import CheckpointError, StoreMissingError
from kwanzaa_compute.failpoint import failpoint
from kwanzaa_compute.store.folder import CHECKPOINTS, RunFolder
from kwanzaa_compute.store.objects import Store

MANIFEST = "manifest.json"
TENSORS = "state.safetensors"
STATE = "state.json"
_NAME = re.compile(r"ckpt-(\d{1,12})-(\d{1,6})")

Say = Callable[[str], None]


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


def put_checkpoint(store: Store, name: CheckpointName, files: Iterable[Path]) -> None:
    """Uploads the files, then their manifest. Raises `StoreError`; then there is no checkpoint."""
    # An earlier try at this very name may have left its manifest: while the files change under
    # it, it must not vouch for them.
    store.delete(f"{name.prefix}/{MANIFEST}")
    entries = {}
    for file in files:
        digest = store.upload(file, f"{name.prefix}/{file.name}")
        failpoint("checkpoint.file_stored")
        entries[file.name] = {"sha256": digest, "size": file.stat().st_size}
    manifest = {"step": name.step, "attempt": name.attempt, "files": entries}
    failpoint("checkpoint.files_stored")
    store.put(f"{name.prefix}/{MANIFEST}", json.dumps(manifest, sort_keys=True).encode())
    failpoint("checkpoint.complete")


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


def newest_verified(store: Store, target: Path, say: Say) -> CheckpointName | None:
    """Fetches the newest checkpoint that verifies into `target`; None where there never was one.

    A damaged one is said and skipped. Raises `CheckpointError` where checkpoints exist and none
    verifies: starting over at step 0 would hide the loss.
    """
    names = list_checkpoints(store)
    whole_once = 0
    for name in names:
        if not store.exists(f"{name.prefix}/{MANIFEST}"):
            say(f"checkpoint {name} has no manifest and is skipped: its save was cut short")
            continue
        whole_once += 1
        wrong = fetch_checkpoint(store, name, target)
        if not wrong:
            return name
        say(f"checkpoint {name} is damaged and skipped: {wrong}")
    if whole_once:
        raise CheckpointError(
            f"none of the {whole_once} checkpoints in {store.url} verifies",
            mend="delete its checkpoints folder to start over, or restore one from a copy",
        )
    if names and (claimed := _claimed(store)):
        raise CheckpointError(
            f"{claimed} was saved in {store.url} once, and no checkpoint has a manifest any more",
            mend="delete its checkpoints folder to start over, or restore one from a copy",
        )
    return None


def _claimed(store: Store) -> str:
    """A checkpoint that an earlier attempt read back and found whole, by its heartbeat; or ""."""
    folder = RunFolder(store)
    beats = (folder.heartbeat(attempt) for attempt in reversed(folder.attempts()))
    return next((beat.checkpoint for beat in beats if beat and beat.checkpoint), "")


def superseded(
    names: Iterable[CheckpointName],
    verified: set[CheckpointName],
    keep: int | None,
    best: CheckpointName | None,
) -> list[CheckpointName]:
    """Which checkpoints to delete: all but the `keep` newest verified ones and the best.

    Never the newest verified one, nothing newer than it (another attempt may be writing it), and
    nothing at all where `keep` is None or none is verified.
    """
    newest_first = sorted(names, reverse=True)
    whole = [name for name in newest_first if name in verified]
    if keep is None or not whole:
        return []
    kept = {*whole[: max(keep, 1)], best}
    return [name for name in newest_first if name not in kept and name < whole[0]]


def delete_checkpoint(store: Store, name: CheckpointName) -> None:
    """Deletes a checkpoint, its manifest first: what is half deleted is not a checkpoint."""
    store.delete(f"{name.prefix}/{MANIFEST}")
    failpoint("checkpoint.manifest_deleted")
    for item in store.list(name.prefix):
        store.delete(item.path)
        failpoint("checkpoint.file_deleted")


@dataclass(slots=True)
class Shelf:
    """The run's checkpoints in the store, with what is known of each one's wholeness.

    Only what was read back and verified counts as kept: a checkpoint that the store mangled must
    never be the reason to delete a good one.
    """

    store: Store
    scratch: Path
    keep: int | None
    known: dict[CheckpointName, bool] = field(default_factory=dict)

    def add(self, name: CheckpointName, files: Iterable[Path]) -> str:
        """Stores a checkpoint and reads it back; returns what is wrong with it, or "".

        One that is there and whole stays: a provider may have made two machines of one attempt,
        and their files must not mix. Raises `StoreError` where the store fails.
        """
        if self.store.exists(f"{name.prefix}/{MANIFEST}") and self.is_whole(name):
            return ""
        put_checkpoint(self.store, name, files)
        self.known.pop(name, None)
        return "" if self.is_whole(name) else f"{name} reads back otherwise than it was written"

    def is_whole(self, name: CheckpointName) -> bool:
        """Whether every byte of it verifies; asked of the store once."""
        if name not in self.known:
            self.known[name] = not fetch_checkpoint(self.store, name, self.scratch)
        return self.known[name]

    def rotate(self, best: CheckpointName | None) -> list[CheckpointName]:
        """Deletes what is superseded, and returns it. Raises `StoreError` where the store fails."""
        names = list_checkpoints(self.store)
        verified: set[CheckpointName] = set()
        for name in names:
            if self.keep is None or len(verified) >= self.keep:
                break
            verified |= {name} if self.is_whole(name) else set()
        gone = superseded(names, verified, self.keep, best)
        for name in gone:
            delete_checkpoint(self.store, name)
        return gone


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
