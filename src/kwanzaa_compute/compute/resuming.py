"""Going on from a checkpoint that the user chose, not from the newest one."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.store.checkpoints import CheckpointName, fetch_checkpoint, list_checkpoints
from kwanzaa_compute.store.folder import ResumePoint

if TYPE_CHECKING:
    from kwanzaa_compute.compute.run import Run

_SPELLING = re.compile(r"(?:(?:checkpoint|ckpt)-)?(\d{1,12})(?:-(\d{1,6}))?")
_MOST_SHOWN = 8


def go_on_from(run: "Run", wanted: str) -> CheckpointName:
    """Binds the run's next attempts to a checkpoint, which is fetched and verified here first.

    `wanted` is `checkpoint-400`, `ckpt-400`, `ckpt-400-2` (of attempt 2) or `400`. Later
    checkpoints are set aside, not deleted. Raises `UsageError`, and changes nothing, where the
    run goes on or is done, and where the checkpoint is unknown or damaged.
    """
    _require_over(run)
    store = run.folder.store
    here = list_checkpoints(store)
    found = [name for name in here if _is_meant(wanted, name)]
    if not found:
        raise UsageError(
            f"run {run.id} has no checkpoint {wanted!r}", mend=_choose_among(run.id, here)
        )
    wrong = ""
    for name in found:
        with tempfile.TemporaryDirectory(prefix="kwanzaa-verify-") as folder:
            wrong = fetch_checkpoint(store, name, Path(folder))
        if not wrong:
            run.folder.put_resume_point(ResumePoint(str(name), len(run.attempts)))
            return name
    others = [name for name in here if name not in found]
    raise UsageError(
        f"checkpoint {found[-1]} of run {run.id} is damaged: {wrong}",
        mend=_choose_among(run.id, others),
    )


def _require_over(run: "Run") -> None:
    state = run.state
    if state is RunState.RUNNING:
        raise UsageError(
            f"run {run.id} still goes on, from where it stands", mend=f"kwanzaa stop {run.id}"
        )
    if state is RunState.DONE:
        raise UsageError(
            f"run {run.id} is done: nothing is left to train",
            mend="start another run: kwanzaa train CONFIG",
        )


def _is_meant(wanted: str, name: CheckpointName) -> bool:
    match = _SPELLING.fullmatch(wanted)
    if match is None or int(match[1]) != name.step:
        return False
    return match[2] is None or int(match[2]) == name.attempt


def _choose_among(run_id: str, names: Sequence[CheckpointName]) -> str:
    if not names:
        return f"it has no other; kwanzaa resume {run_id} says what it can go on from"
    more = f" and {len(names) - _MOST_SHOWN} older ones" if len(names) > _MOST_SHOWN else ""
    return f"it has {', '.join(map(str, names[:_MOST_SHOWN]))}{more}"
