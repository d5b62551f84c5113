"""Where a run goes next when it has no machine: the first launch, and every one after it. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import takewhile

from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.runs.deadlines import choose, cost_usd, outlook, stake
from kwanzaa_compute.runs.records import (
    USUAL_DISK_GIB,
    AttemptRecord,
    AttemptState,
    Fault,
    Move,
    Prospect,
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

COOL_DOWN_S = 900.0
"""A place that took a machine back is tried last for so long: it is likely to do so again."""
SOLD_OUT_S = 600.0
"""A run that has time to wait asks a place that was sold out again after so many seconds."""
LOOK_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Launch:
    """Launch this offer for at most `max_hours`."""

    offer: Offer
    max_hours: float
    why: str = ""
    disk_gib: float = USUAL_DISK_GIB


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
    prospects: Sequence[Prospect],
    now: float,
    stop_reserve_s: float,
    *,
    handover_s: float = 0.0,
    project_left_usd: Decimal | None = None,
) -> Launch | Pause | End:
    """What to do for a run whose attempts are all closed; `prospects` are ranked, best first.

    `handover_s` passes from the loss of a machine until the next one can be launched;
    `project_left_usd` is what the cap on all runs together leaves, None: there is none.
    """
    # Faults from before the user's last `resume` are history; the money they cost is not.
    current = [a for a in attempts if a.intended_at >= run.resumed_at]
    return (
        _ended(run, current)
        or _hopeless(current)
        or _too_soon(current, now)
        or _go_on(
            run,
            attempts,
            prospects,
            now,
            reserves=(stop_reserve_s, handover_s),
            project_left_usd=project_left_usd,
        )
    )


def usable(
    run: RunRecord, attempts: Sequence[AttemptRecord], prospects: Sequence[Prospect], now: float
) -> list[Prospect]:
    """Ranked prospects without dead ends; places that just took a machine back come last.

    What is sold out is a dead end for good; or for a while, if a deadline leaves time to wait.
    Then they are ranked by what the run would cost at the prices that they have now.
    """
    current = [a for a in attempts if a.intended_at >= run.resumed_at]
    waits = may_wait(run, now)
    sold_out = {
        a.place
        for a in current
        if a.fault is Fault.CAPACITY and not (waits and now - _closed_at(a) >= SOLD_OUT_S)
    }
    resting = {
        a.place
        for a in current
        if a.fault in (Fault.PREEMPTED, Fault.MACHINE) and now - _closed_at(a) < COOL_DOWN_S
    }
    found = [
        p
        for p in _possible(run, current, prospects, now)
        if p.place not in sold_out and not (waits and p.offer.availability is Availability.SOLD_OUT)
    ]
    failures = Counter(a.place for a in _passing_faults(current))

    def trouble(prospect: Prospect) -> tuple[bool, int]:
        flaky = failures[prospect.place] // FAULTS_BEFORE_MOVING_ON
        return prospect.place in resting, flaky

    if waits:  # for a run that has time, prices are asked for again, so the plan's order is old
        return sorted(found, key=lambda p: (*trouble(p), cost_usd(p, 1.0)))
    return sorted(found, key=trouble)


def _possible(
    run: RunRecord, current: Sequence[AttemptRecord], prospects: Sequence[Prospect], now: float
) -> list[Prospect]:
    """Prospects that can be had at some time: no provider that refuses us, no unknown price."""
    refused = {a.provider for a in current if a.fault in (Fault.QUOTA, Fault.CREDENTIALS)}
    waits = may_wait(run, now)
    return [
        p
        for p in prospects
        if p.offer.provider not in refused and (not waits or _has_price(p.offer))
    ]


def may_wait(run: RunRecord, now: float) -> bool:
    """Whether the run has a deadline that is still to come: then time is worth money."""
    return run.deadline_at is not None and now < run.deadline_at


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
        return End(RunState.CAPPED if run.trains else RunState.STOPPED, last.reason)
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


def _closed_at(attempt: AttemptRecord) -> float:
    return attempt.intended_at if attempt.closed_at is None else attempt.closed_at


def _go_on(
    run: RunRecord,
    attempts: Sequence[AttemptRecord],
    prospects: Sequence[Prospect],
    now: float,
    *,
    reserves: tuple[float, float],
    project_left_usd: Decimal | None,
) -> Launch | Pause | End:
    """The best place now; with a deadline, what time and money allow, or patience."""
    stop_reserve_s, handover_s = reserves
    found, why = usable(run, attempts, prospects, now), ""
    current = [a for a in attempts if a.intended_at >= run.resumed_at]
    known = _possible(run, current, prospects, now)
    view = outlook(run, attempts, found, now, handover_s)
    if view is not None:
        choice = choose(view, stake(run, attempts, view.steady, now), found, known)
        if choice.prospect is None:
            return Pause(now + LOOK_AGAIN_S, choice.why)
        # Should the cap not pay for it, any other machine is better than none.
        found = [choice.prospect, *(p for p in found if p is not choice.prospect)]
        why = choice.why
    elif not found and known and may_wait(run, now):
        return Pause(now + LOOK_AGAIN_S, "nothing is to be had now, and the deadline is to come")
    verdict = _launch(
        run, attempts, found, now, stop_reserve_s=stop_reserve_s, project_left_usd=project_left_usd
    )
    return replace(verdict, why=why) if isinstance(verdict, Launch) else verdict


def _launch(
    run: RunRecord,
    attempts: Sequence[AttemptRecord],
    prospects: Sequence[Prospect],
    now: float,
    *,
    stop_reserve_s: float,
    project_left_usd: Decimal | None,
) -> Launch | End:
    if not prospects:
        return _nothing_left([a for a in attempts if a.intended_at >= run.resumed_at])
    own = None if run.max_usd is None else run.max_usd - spent_usd(attempts, now)
    left = min((usd for usd in (own, project_left_usd) if usd is not None), default=None)
    lived_h = sum(a.billed_s(now) for a in attempts if a.intended_at >= run.resumed_at) / 3600
    for prospect in prospects:
        offer = prospect.offer
        if not _has_price(offer):
            continue
        rate = offer.usd_per_hour or Decimal(0)
        hours = affordable_hours(
            left,
            rate,
            billing_step_s=offer.billing_step_s,
            minimum_s=offer.minimum_s,
            stop_reserve_s=stop_reserve_s,
            max_hours=run.max_hours - lived_h,
        )
        if hours >= SHORTEST_USEFUL_HOURS:
            return Launch(offer, hours, disk_gib=prospect.disk_gib)
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


def _has_price(offer: Offer) -> bool:
    """An unknown or absurd price is never taken for free; only our own machine is."""
    rate = offer.usd_per_hour
    return offer.own_machine or (rate is not None and rate.is_finite() and rate > 0)


def _too_little(left: Decimal | None, whose: str, hours: float) -> str:
    money = "" if left is None else f"${max(left, Decimal(0)):.2f} of the {whose} and "
    return f"{money}{max(hours, 0):.2f} h of the time limit are left: too little for any offer"
