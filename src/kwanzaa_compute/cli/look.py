"""`Look`: one look at a run, ready to be shown. What machines wrote is checked here, once."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from kwanzaa_compute.cli.words import clean, number, whole
from kwanzaa_compute.compute import Run
from kwanzaa_compute.runs.records import AttemptRecord, AttemptState, Event, Move, RunState
from kwanzaa_compute.store import Heartbeat

if TYPE_CHECKING:
    from kwanzaa_compute.runs.step import Step

_WAITING = {
    AttemptState.INTENDED: "asking for a machine",
    AttemptState.LIVE: "starting",
    AttemptState.ENDING: "ending the machine",
    AttemptState.CLOSED: "finishing",
}
_PHASES = {
    "download": "fetching data and base model",
    "load": "loading the base model",
    "train": "training",
    "eval": "evaluating",
    "save": "saving",
}


@dataclass(frozen=True, slots=True)
class Look:
    """Where a run stands at one moment. Times in seconds, money in dollars, memory in GiB."""

    run_id: str
    state: RunState
    reason: str
    doing: str
    """In words for people, what is going on."""
    phase: str
    attempt: int
    where: str
    move: str
    step: int
    total_steps: int
    epoch: float | None
    loss: float | None
    eval_loss: float | None
    tokens_per_second: float | None
    eta_s: float | None
    gpu_memory_gib: float | None
    checkpoint: str
    usd: Decimal
    usd_per_hour: Decimal
    cap_usd: Decimal | None
    estimate_usd: Decimal | None
    sequence: int
    member: str = ""
    """In a run of several adapters, the one that moved last."""
    silent_s: float = 0.0
    """For how long the trainer has been silent beyond the interval that it told; 0: it is not."""
    ending_at: float | None = None
    """Since when the machine has been terminated without proof of its absence (epoch seconds)."""
    events: tuple[Event, ...] = ()
    """Everything that has happened to the run until now, oldest first."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens, unless somebody resumes the run."""
        return self.state is not RunState.RUNNING

    @property
    def is_training(self) -> bool:
        """Whether a number of steps is known, so that a bar can be drawn."""
        return self.total_steps > 0 and self.phase in {"train", "eval", "save"}


def look_at(run: Run, step: "Step") -> Look:
    """What `step` saw of `run`, with what the run has cost by now."""
    receipt, attempt, record = run.receipt, step.attempt, step.run
    beat = step.heartbeat or Heartbeat(sequence=-1, phase="", attempt=0)
    phase = clean(beat.phase) if _is_live(attempt) else ""
    member = clean(beat.member) if phase else ""
    doing = " ".join(filter(None, (_doing(attempt, phase), member and f"({member})")))
    if _is_live(attempt) and not record.trains:
        doing = "a machine to look around on"
    return Look(
        run_id=record.id,
        state=record.state,
        reason=clean(step.reason),
        doing=doing,
        member=member,
        phase=phase,
        attempt=attempt.number if attempt else 0,
        where=where(attempt),
        move=str(step.move or ""),
        step=whole(beat.step) or (attempt.step if attempt else 0),
        total_steps=whole(beat.total_steps),
        epoch=number(beat.epoch) if beat.phase else None,
        loss=number(beat.loss),
        eval_loss=number(beat.eval_loss),
        tokens_per_second=number(beat.tokens_per_second),
        eta_s=number(beat.eta_s),
        gpu_memory_gib=number(beat.gpu_memory_gib),
        checkpoint=clean(beat.checkpoint or (attempt.checkpoint if attempt else "")),
        usd=receipt.usd,
        usd_per_hour=receipt.open_usd_per_hour,
        cap_usd=record.max_usd,
        estimate_usd=record.estimate_usd,
        sequence=whole(beat.sequence),
        silent_s=run.silent_s(step),
        ending_at=attempt.ending_at if _is_ending(attempt) and attempt else None,
        events=tuple(run.events),
    )


def where(attempt: AttemptRecord | None) -> str:
    """Provider, GPU and region of an attempt."""
    if attempt is None:
        return "-"
    spot = "spot" if attempt.spot else ""
    return clean(" ".join(filter(None, (attempt.provider, attempt.gpu, attempt.region, spot))))


def _is_live(attempt: AttemptRecord | None) -> bool:
    return attempt is not None and attempt.state is AttemptState.LIVE


def _is_ending(attempt: AttemptRecord | None) -> bool:
    return attempt is not None and attempt.state is AttemptState.ENDING


def _doing(attempt: AttemptRecord | None, phase: str) -> str:
    if attempt is None:
        return "looking for a machine"
    if attempt.state is AttemptState.CLOSED and attempt.ending is Move.RELAUNCH:
        return "looking for the next machine"
    return (phase and _PHASES.get(phase, phase)) or _WAITING[attempt.state]
