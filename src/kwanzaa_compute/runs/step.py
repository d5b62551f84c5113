"""`Step`: what a watcher saw of a run, and did about it."""

from dataclasses import dataclass

from kwanzaa_compute.runs.records import AttemptRecord, Move, RunRecord
from kwanzaa_compute.store import Heartbeat


@dataclass(frozen=True, slots=True)
class Step:
    """What one step saw and did, for whoever shows it."""

    run: RunRecord
    attempt: AttemptRecord | None
    move: Move | None
    reason: str
    heartbeat: Heartbeat | None = None
    nothing_was_created: bool = False
    """A launch was refused for certain: the next offer can be tried at once."""
