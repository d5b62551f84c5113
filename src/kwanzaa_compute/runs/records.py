"""What the ledger remembers of runs and attempts, and the words for their states."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import StrEnum
from typing import Any

from kwanzaa_compute.errors import (
    EXIT_OK,
    BudgetError,
    CredentialsError,
    KwanzaaError,
    NothingFitsError,
    QuotaError,
    RunError,
)
from kwanzaa_compute.market.offers import Offer


class RunState(StrEnum):
    """Where a run stands. Everything but RUNNING is final, until somebody resumes it."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    CAPPED = "capped"
    """It reached its dollar cap or its time limit; what it learned is in the store."""
    NO_CAPACITY = "no capacity"
    NO_ACCESS = "no access"
    """No machine could be had, and a provider refused our credentials."""
    NO_QUOTA = "no quota"
    """No machine could be had: a quota or a balance forbids it."""

    @property
    def exit_code(self) -> int:
        """What the command line returns for a run that ended so."""
        by_state: dict[RunState, type[KwanzaaError]] = {
            RunState.FAILED: RunError,
            RunState.CAPPED: BudgetError,
            RunState.NO_CAPACITY: NothingFitsError,
            RunState.NO_ACCESS: CredentialsError,
            RunState.NO_QUOTA: QuotaError,
        }
        error = by_state.get(self)
        return error.exit_code if error else EXIT_OK


class Wish(StrEnum):
    """What the user wants of a run."""

    RUN = "run"
    STOP = "stop"
    """Save a checkpoint first, then end the machine."""
    TERMINATE = "terminate"
    """End the machine now."""


class AttemptState(StrEnum):
    """Where an attempt stands, in what we know for certain."""

    INTENDED = "intended"
    """A machine may have been asked for; nothing says yet whether it exists."""
    LIVE = "live"
    ENDING = "ending"
    """To be terminated, until confirmed absent."""
    CLOSED = "closed"


class Move(StrEnum):
    """What the lifecycle decides."""

    WAIT = "wait"
    ADOPT = "adopt"
    """The machine of an uncertain launch was found by its name."""
    ASK_TO_STOP = "ask to stop"
    """Ask the trainer for a checkpoint and a clean exit."""
    LEAVE = "leave"
    """Ask the trainer for a checkpoint, to go on elsewhere."""
    FINISH = "finish"
    """The run is complete: end the machine."""
    FAIL = "fail"
    """The run cannot succeed: end the machine."""
    RELAUNCH = "relaunch"
    """This machine is of no more use: end it, then try another."""
    HALT = "halt"
    """The user, the cap or the clock says enough: end the machine."""
    CONFIRM = "confirm"
    """Terminate (again) and look whether it is gone."""
    CLOSE = "close"
    """Proven absent: nothing of this attempt bills any more."""


ENDINGS = frozenset({Move.FINISH, Move.FAIL, Move.RELAUNCH, Move.HALT})


class Fault(StrEnum):
    """Why an attempt was given up, as far as it matters for where to go next."""

    NONE = ""
    CAPACITY = "capacity"
    QUOTA = "quota"
    CREDENTIALS = "credentials"
    INVALID = "invalid request"
    TRANSIENT = "transient"
    PREEMPTED = "preempted"
    MACHINE = "bad machine"
    """It never showed a sign of the trainer."""
    CRASHED = "crashed"
    """The trainer ended or hung on a machine that worked."""


USUAL_DISK_GIB = 50.0
"""Asked for where nobody has counted: room for a 7B model as it is published, and libraries."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """An offer of the plan, with how the whole run would go there. Times in seconds.

    `work_s` is all of the work, zero where nobody has estimated it: then nothing can be said of
    deadlines. `checkpoint_s` passes from one checkpoint to the next: what losing a machine loses.
    """

    offer: Offer
    set_up_s: float = 0.0
    """Until the first step of a fresh machine."""
    work_s: float = 0.0
    checkpoint_s: float = 0.0
    disk_gib: float = USUAL_DISK_GIB
    """What the run needs there."""

    @property
    def place(self) -> tuple[str, str, str]:
        """What may run out of machines, or take them back, as a whole."""
        return self.offer.provider, self.offer.id, self.offer.region


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One row of the ledger. Times in seconds since the epoch, money in dollars."""

    id: str
    name: str
    owner: str
    store_url: str
    state: RunState
    wish: Wish
    created_at: float
    config: str
    """The effective TrainingConfig as canonical JSON; "" where nothing is trained."""
    candidates: str
    """The plan's ranked prospects, as JSON."""
    max_usd: Decimal | None
    max_hours: float
    """Machine hours in all, since the run was started or last resumed."""
    output_dir: str
    estimate_usd: Decimal | None = None
    resumed_at: float = 0.0
    """When the user last resumed it; faults of earlier attempts no longer count."""
    ended_at: float | None = None
    reason: str = ""
    deadline_at: float | None = None
    """When the user wants it to be finished; None: whenever it is cheapest."""

    @property
    def trains(self) -> bool:
        """Whether its machine trains; else it is one to look around on (`kwanzaa provision`)."""
        return bool(self.config)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One machine's worth of a run, from the intent to launch it to its proven absence."""

    run_id: str
    number: int
    name: str
    """The name stamped on the machine: owner, run and attempt."""
    provider: str
    offer_id: str
    region: str
    gpu: str
    spot: bool
    usd_per_hour: Decimal
    billing_step_s: int
    minimum_s: int
    max_hours: float
    state: AttemptState
    intended_at: float
    machine_id: str = ""
    beat_sequence: int = -1
    beat_changed_at: float | None = None
    phase: str = ""
    step: int = 0
    checkpoint: str = ""
    asked_to_stop_at: float | None = None
    absent_since: float | None = None
    ending: Move | None = None
    ending_at: float | None = None
    fault: Fault = Fault.NONE
    reason: str = ""
    exit_code: int | None = None
    closed_at: float | None = None
    total_steps: int = 0
    """Steps of the whole run, as the trainer counts them; zero until it has said so."""
    leaving: bool = False
    """It was asked to stop so that the run goes on elsewhere."""
    reserve_s: float = 0.0
    """How much longer than `max_hours` it may bill, until its absence is proven."""
    retry_at: float | None = None
    """The provider asked for no launch before this time (seconds since the epoch)."""

    @property
    def place(self) -> tuple[str, str, str]:
        """Where its machine was asked for, as `Prospect.place`."""
        return self.provider, self.offer_id, self.region

    def billed_s(self, now: float) -> float:
        """Seconds that we count as billed: from the intent, so never less than the provider's."""
        end = now if self.closed_at is None else self.closed_at
        return max(0.0, end - self.intended_at)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on a run until `expires_at`; `token` grows with every new holder."""

    run_id: str
    holder: str
    token: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class Held:
    """A run that this watcher holds, with its newest attempt."""

    lease: Lease
    run: RunRecord
    attempt: AttemptRecord | None


@dataclass(frozen=True, slots=True)
class Project:
    """What all runs of a ledger may cost together, and what they do. Dollars."""

    max_usd: Decimal | None
    spent_usd: Decimal
    """Until now, by our clock and the quoted rates."""
    committed_usd: Decimal
    """Spent, and what every open attempt costs if it lives to the end of its time."""

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be committed; None where there is no cap."""
        return None if self.max_usd is None else self.max_usd - self.committed_usd


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run, for people."""

    at: float
    kind: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


def values_of(record: Any) -> dict[str, Any]:
    """A dataclass's fields by name, to be written down: `asdict` copies each of them, slowly."""
    return {name: getattr(record, name) for name in names_of(type(record))}


def names_of(kind: type[Any]) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(f.name for f in fields(kind))
