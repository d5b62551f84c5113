"""Where a run goes next when it has no machine: the first launch, and every one after it. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile

from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Fault,
    Move,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.spending import affordable_hours, spent_usd

CRASHES_WITHOUT_PROGRESS = 3
"""So many attempts in a row that end badly without a new checkpoint end the run."""

FAULTS_BEFORE_MOVING_ON = 2
"""So many passing faults of launches in a row at one place, and another place comes first."""

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 120.0
SHORTEST_USEFUL_HOURS = 1 / 60


@dataclass(frozen=True, slots=True)
class Launch:
    """Launch this offer for at most `max_hours`."""

    offer: Offer
    max_hours: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Launch nothing before this time (seconds since the epoch)."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The run is over."""

    state: RunState
    reason: str


def next_launch(
    run: RunRecord,
    attempts: Sequence[AttemptRecord],
    offers: Sequence[Offer],
    now: float,
    stop_reserve_s: float,
    *,
    project_left_usd: Decimal | None = None,
) -> Launch | Pause | End:
    """What to do for a run whose attempts are all closed; `offers` are ranked, best first.

    `project_left_usd` is what the cap on all runs together leaves; None: there is none.
    """
    # Faults from before the user's last `resume` are history; the money they cost is not.
    current = [a for a in attempts if a.intended_at >= run.resumed_at]
    return (
        _ended(run, current)
        or _hopeless(current)
        or _too_soon(current, now)
        or _launch(
            run,
            attempts,
            _without_flaky(_usable(offers, current), current),
            now,
            stop_reserve_s=stop_reserve_s,
            project_left_usd=project_left_usd,
        )
    )


def intent(run: RunRecord, launch: Launch, last: AttemptRecord | None, now: float) -> AttemptRecord:
    """The attempt that follows `last`, as it is written down before its machine is asked for."""
    offer, number = launch.offer, last.number + 1 if last else 1
    return AttemptRecord(
        run_id=run.id,
        number=number,
        name=f"kwz-{run.owner}-{run.id}-{number}",
        provider=offer.provider,
        offer_id=offer.id,
        region=offer.region,
        gpu=offer.gpu.name,
        spot=offer.spot,
        usd_per_hour=offer.usd_per_hour or Decimal(0),
        billing_step_s=offer.billing_step_s,
        minimum_s=offer.minimum_s,
        max_hours=launch.max_hours,
        state=AttemptState.INTENDED,
        intended_at=now,
        checkpoint=last.checkpoint if last else "",
    )


def _ended(run: RunRecord, attempts: Sequence[AttemptRecord]) -> End | None:
    last = attempts[-1] if attempts else None
    if last and last.ending is Move.FINISH:
        return End(RunState.DONE, last.reason)
    if run.wish is not Wish.RUN:
        return End(RunState.STOPPED, last.reason if last else "stopped before its first launch")
    if last and last.ending is Move.FAIL:
        return End(RunState.FAILED, last.reason)
    if last and last.ending is Move.HALT:
        return End(RunState.CAPPED, last.reason)
    return None


def _hopeless(attempts: Sequence[AttemptRecord]) -> End | None:
    if attempts and attempts[-1].fault is Fault.INVALID:
        return End(RunState.FAILED, attempts[-1].reason)
    recent = attempts[-CRASHES_WITHOUT_PROGRESS:]
    crashed = [a for a in recent if a.fault in (Fault.CRASHED, Fault.MACHINE)]
    if len(crashed) == CRASHES_WITHOUT_PROGRESS and len({a.checkpoint for a in crashed}) == 1:
        return End(
            RunState.FAILED,
            f"{CRASHES_WITHOUT_PROGRESS} attempts in a row ended without a new checkpoint;"
            f" the last: {crashed[-1].reason}",
        )
    return None


def _too_soon(attempts: Sequence[AttemptRecord], now: float) -> Pause | None:
    failed = len(_passing_faults(attempts))
    if not failed:
        return None
    last = attempts[-1]
    until = (last.closed_at or now) + min(FIRST_PAUSE_S * 2**failed, LONGEST_PAUSE_S)
    until = max(until, last.retry_at or 0.0)
    return Pause(until, last.reason) if now < until else None


def _passing_faults(attempts: Sequence[AttemptRecord]) -> list[AttemptRecord]:
    """The newest attempts in a row whose launch may succeed another time, newest first."""
    return list(takewhile(lambda a: a.fault is Fault.TRANSIENT, reversed(attempts)))


def _without_flaky(offers: Sequence[Offer], attempts: Sequence[AttemptRecord]) -> list[Offer]:
    """The offers, with a place that failed again and again behind those that did not."""
    failures = Counter(_place(a) for a in _passing_faults(attempts))
    return sorted(
        offers, key=lambda o: failures[o.provider, o.id, o.region] // FAULTS_BEFORE_MOVING_ON
    )


def _usable(offers: Sequence[Offer], attempts: Sequence[AttemptRecord]) -> list[Offer]:
    """Ranked offers without dead ends; a place that just took a machine back comes last."""
    providers = {a.provider for a in attempts if a.fault in (Fault.QUOTA, Fault.CREDENTIALS)}
    sold_out = {_place(a) for a in attempts if a.fault is Fault.CAPACITY}
    last = attempts[-1] if attempts else None
    shunned = _place(last) if last and last.fault in (Fault.PREEMPTED, Fault.MACHINE) else None
    usable = [
        o
        for o in offers
        if o.provider not in providers and (o.provider, o.id, o.region) not in sold_out
    ]
    return sorted(usable, key=lambda o: (o.provider, o.id, o.region) == shunned)


def _place(attempt: AttemptRecord) -> tuple[str, str, str]:
    return attempt.provider, attempt.offer_id, attempt.region


def _launch(
    run: RunRecord,
    attempts: Sequence[AttemptRecord],
    offers: Sequence[Offer],
    now: float,
    *,
    stop_reserve_s: float,
    project_left_usd: Decimal | None,
) -> Launch | End:
    if not offers:
        return _nothing_left([a for a in attempts if a.intended_at >= run.resumed_at])
    own = None if run.max_usd is None else run.max_usd - spent_usd(attempts, now)
    left = min((usd for usd in (own, project_left_usd) if usd is not None), default=None)
    lived_h = sum(a.billed_s(now) for a in attempts if a.intended_at >= run.resumed_at) / 3600
    for offer in offers:
        rate = offer.usd_per_hour or Decimal(0)
        if not offer.own_machine and not (rate.is_finite() and rate > 0):
            continue  # an unknown or absurd price is never taken for free
        hours = affordable_hours(
            left,
            rate,
            billing_step_s=offer.billing_step_s,
            minimum_s=offer.minimum_s,
            stop_reserve_s=stop_reserve_s,
            max_hours=run.max_hours - lived_h,
        )
        if hours >= SHORTEST_USEFUL_HOURS:
            return Launch(offer, hours)
    whose = "cap" if left is None or left == own else "project's cap"
    return End(RunState.CAPPED, _too_little(left, whose, run.max_hours - lived_h))


def _nothing_left(attempts: Sequence[AttemptRecord]) -> End:
    """Every offer was refused: what a user can mend comes before what only time mends."""
    reason = attempts[-1].reason if attempts else "the plan has no offer"
    faults = {attempt.fault for attempt in attempts}
    state = RunState.NO_CAPACITY
    if Fault.CAPACITY not in faults:
        if Fault.CREDENTIALS in faults:
            state = RunState.NO_ACCESS
        elif Fault.QUOTA in faults:
            state = RunState.NO_QUOTA
    return End(state, f"no offer is left to try; the last said: {reason}")


def _too_little(left: Decimal | None, whose: str, hours: float) -> str:
    money = "" if left is None else f"${max(left, Decimal(0)):.2f} of the {whose} and "
    return f"{money}{max(hours, 0):.2f} h of the time limit are left: too little for any offer"
