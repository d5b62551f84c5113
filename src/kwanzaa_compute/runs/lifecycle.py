r"""What to do next with an attempt: one pure function, no clock, no I/O.

Rule 1: everything that decides over a machine stands in this file. The supervisor observes,
calls `decide`, writes the decision down and only then acts on it.

    INTENDED --found by name--> LIVE --finish, fail, relaunch, halt--> ENDING --absent--> CLOSED
        \--absent for a whole settle window--------------------------------------------> CLOSED
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.runs.records import AttemptState, Move, Wish
from kwanzaa_compute.store import Failure, Heartbeat, TrainingPhase

QUIET_S: Mapping[str, float] = {
    TrainingPhase.DOWNLOAD: 1800.0,
    TrainingPhase.LOAD: 1200.0,
    TrainingPhase.TRAIN: 900.0,
    TrainingPhase.EVAL: 1800.0,
    TrainingPhase.SAVE: 900.0,
}
"""How long, in seconds, a trainer may make no progress in each phase before it counts as hung."""
LEAST_QUIET_S = 120.0
"""A trainer that beats often may be silent for so long all the same: stores are slow at times."""
MOST_QUIET_S = 7200.0
"""However rarely a trainer says it beats, a silence this long is one: machines may lie."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds that an attempt lives in, in seconds."""

    settle_s: float
    boot_s: float
    max_age_s: float
    stop_reserve_s: float = 60.0
    stop_grace_s: float = 300.0
    quiet_s: Mapping[str, float] = field(default_factory=lambda: QUIET_S)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of an attempt at this moment; ages in seconds by the watcher's clock."""

    state: AttemptState
    wish: Wish = Wish.RUN
    trains: bool = True
    """Whether a trainer is to be heard of; else the machine itself is what was asked for."""
    age_s: float = 0.0
    quiet_s: float = 0.0
    """At the last look, since the heartbeat changed; since the intent, where there was none."""
    absent_s: float | None = None
    """Since the first of an unbroken row of successful fleet readings without this machine."""
    asked_to_stop_s: float | None = None
    leaving: bool = False
    """It was asked to stop so that the run goes on elsewhere, and not because it is enough."""
    better_elsewhere: str = ""
    """Why the run should go on elsewhere although this machine works; empty: it should not."""
    done: bool = False
    failure: Failure | None = None
    store_read: bool = True
    """Whether the store could be read: what could not be read is not a trainer's silence."""


Decision = tuple[Move, str]


def decide(
    sighting: Sighting | None, heartbeat: Heartbeat | None, attempt: Attempt, limits: Limits
) -> Decision:
    """The next move for an attempt, and its reason in words.

    `sighting` is None where the provider could not be asked: an error is never absence.
    It must have been read *before* the store, so that a command seen EXITED without a done
    marker or a failure record has truly left none.
    """
    match attempt.state:
        case AttemptState.INTENDED:
            return _uncertain(sighting, attempt, limits)
        case AttemptState.LIVE if not attempt.trains:
            return _enough(attempt, limits) or _looked_after(sighting, attempt, limits)
        case AttemptState.LIVE:
            return (
                _said_by_the_trainer(attempt)
                or _enough(attempt, limits)
                or _to_be_stopped(attempt, limits)
                or _seen(sighting, attempt, limits)
                or _silent(heartbeat, attempt, limits)
                or _elsewhere(heartbeat, attempt)
                or (Move.WAIT, "it is working")
            )
        case AttemptState.ENDING:
            if _proven_absent(attempt, limits):
                return Move.CLOSE, "confirmed absent"
            return Move.CONFIRM, "not yet confirmed absent"
        case AttemptState.CLOSED:
            return Move.WAIT, "it has ended"


def _uncertain(sighting: Sighting | None, attempt: Attempt, limits: Limits) -> Decision:
    if sighting is None:
        return Move.WAIT, "the provider cannot be asked whether the machine exists"
    if sighting.phase is not Phase.GONE:
        return Move.ADOPT, f"found by its name, {sighting.phase}"
    if _proven_absent(attempt, limits) and attempt.age_s >= limits.settle_s:
        return Move.CLOSE, "the launch created nothing"
    return Move.WAIT, "a machine may still come to light"


def _proven_absent(attempt: Attempt, limits: Limits) -> bool:
    return attempt.absent_s is not None and attempt.absent_s >= limits.settle_s


def _said_by_the_trainer(attempt: Attempt) -> Decision | None:
    if attempt.done:
        return Move.FINISH, "the done marker is in the store"
    failure = attempt.failure
    if failure is None:
        return None
    if failure.stopped:
        if attempt.leaving:
            return Move.RELAUNCH, "saved, to go on elsewhere"
        if attempt.asked_to_stop_s is not None:
            return Move.HALT, "stopped after a checkpoint"
        return Move.RELAUNCH, f"the machine was told to stop: {failure.message}"
    if failure.retryable:
        return Move.RELAUNCH, failure.message
    return Move.FAIL, failure.message


def _enough(attempt: Attempt, limits: Limits) -> Decision | None:
    # Before any question to the trainer: this must not hang on a store that cannot be written.
    if attempt.wish is Wish.TERMINATE:
        return Move.HALT, "terminated by the user"
    if attempt.age_s >= limits.max_age_s:
        return Move.HALT, "its time, by cap or limit, is used up"
    if attempt.asked_to_stop_s is not None and attempt.asked_to_stop_s >= limits.stop_grace_s:
        reason = f"no checkpoint within {limits.stop_grace_s:.0f} s of being asked"
        if not attempt.leaving or attempt.wish is not Wish.RUN:
            return Move.HALT, reason
        if attempt.store_read:  # else it may be complete by now, and there is time to see
            return Move.RELAUNCH, reason
    return None


def _to_be_stopped(attempt: Attempt, limits: Limits) -> Decision | None:
    if attempt.asked_to_stop_s is not None:
        return None
    if attempt.wish is Wish.STOP:
        return Move.ASK_TO_STOP, "stopped by the user"
    if attempt.age_s >= limits.max_age_s - limits.stop_reserve_s:
        return Move.ASK_TO_STOP, "its time, by cap or limit, is nearly used up"
    return None


def _seen(sighting: Sighting | None, attempt: Attempt, limits: Limits) -> Decision | None:
    if sighting is None or not attempt.store_read:
        return None  # without the store an end cannot be told from a success
    match sighting.phase:
        case Phase.PREEMPTED:
            return Move.RELAUNCH, "the provider took the machine back"
        case Phase.EXITED:
            return Move.RELAUNCH, f"its command ended too early ({_exit_words(sighting)})"
        case Phase.GONE if _proven_absent(attempt, limits):
            return Move.RELAUNCH, "the machine is gone"
        case Phase.GONE:
            return Move.WAIT, "not seen just now; not yet proof that it is gone"
    return None


def _looked_after(sighting: Sighting | None, attempt: Attempt, limits: Limits) -> Decision:
    """A machine without a trainer: once it was there, whatever ends it ends the run."""
    if attempt.wish is Wish.STOP:
        return Move.HALT, "stopped by the user"
    match sighting and sighting.phase:
        case Phase.PREEMPTED:
            return Move.HALT, "the provider took the machine back"
        case Phase.EXITED:
            return Move.HALT, "its command ended"
        case Phase.GONE if _proven_absent(attempt, limits):
            return Move.HALT, "the machine is gone"
        case Phase.QUEUED | Phase.STARTING if attempt.age_s >= limits.boot_s:
            return Move.RELAUNCH, f"it did not start within {limits.boot_s:.0f} s"
    return Move.WAIT, "the machine is yours"


def _exit_words(sighting: Sighting) -> str:
    code = sighting.exit_code
    if code is None:
        return "no exit code known"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _silent(heartbeat: Heartbeat | None, attempt: Attempt, limits: Limits) -> Decision | None:
    if not attempt.store_read:
        return None
    if heartbeat is None:
        if attempt.quiet_s >= limits.boot_s:
            return Move.RELAUNCH, f"no sign of the trainer within {limits.boot_s:.0f} s"
        return None
    allowed = allowed_silence_s(heartbeat, limits.quiet_s)
    if attempt.quiet_s >= allowed:
        return Move.RELAUNCH, f"no progress in phase {heartbeat.phase} for {attempt.quiet_s:.0f} s"
    return None


def allowed_silence_s(heartbeat: Heartbeat, quiet_s: Mapping[str, float] = QUIET_S) -> float:
    """Twice the trainer's own interval where it has said one, else what its phase may take."""
    if heartbeat.interval_s is not None:
        return min(max(2 * heartbeat.interval_s, LEAST_QUIET_S), MOST_QUIET_S)
    return quiet_s.get(heartbeat.phase, max(quiet_s.values()))


def _elsewhere(heartbeat: Heartbeat | None, attempt: Attempt) -> Decision | None:
    """Last of all: there is a better place. A machine without a trainer has nothing to save."""
    if attempt.leaving and heartbeat is None and attempt.store_read:
        return Move.RELAUNCH, "to go on elsewhere; its trainer had not begun"
    if attempt.better_elsewhere and attempt.asked_to_stop_s is None:
        return Move.LEAVE, attempt.better_elsewhere
    return None
