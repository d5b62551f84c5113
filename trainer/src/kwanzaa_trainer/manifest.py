"""Checkpoints as the trainer keeps them: writing, choosing where to go on, rotation. No torch.

What a checkpoint is, and when it is whole, stands in `kwanzaa_compute.store.checkpoints`.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kwanzaa_compute.errors import CheckpointError
from kwanzaa_compute.failpoint import failpoint
from kwanzaa_compute.store.checkpoints import (
    MANIFEST,
    CheckpointName,
    fetch_checkpoint,
    list_checkpoints,
    that_count,
)
from kwanzaa_compute.store.folder import ResumePoint, RunFolder
from kwanzaa_compute.store.objects import Store

Say = Callable[[str], None]


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


def newest_verified(
    store: Store, target: Path, say: Say, point: ResumePoint | None = None
) -> CheckpointName | None:
    """Fetches the newest checkpoint that verifies into `target`; None where there never was one.

    A damaged one is said and skipped; one that `point` sets aside is not looked at. Raises
    `CheckpointError` where checkpoints exist and none verifies: starting over at step 0 would
    hide the loss.
    """
    names = that_count(list_checkpoints(store), point)
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
    if point is not None:
        raise CheckpointError(
            f"{point.checkpoint}, from which this run was to go on, does not verify any more",
            mend="choose another checkpoint: kwanzaa resume RUN --from checkpoint-STEP",
        )
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
    point: ResumePoint | None = None
    """What the user set aside is neither counted nor deleted: it can be taken up again."""
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
        names = that_count(list_checkpoints(self.store), self.point)
        verified: set[CheckpointName] = set()
        for name in names:
            if self.keep is None or len(verified) >= self.keep:
                break
            verified |= {name} if self.is_whole(name) else set()
        gone = superseded(names, verified, self.keep, best)
        for name in gone:
            delete_checkpoint(self.store, name)
        return gone
