"""When a run with a deadline may be on a spot machine, and when it must not. Pure.

Spot machines are cheap and are taken back. Two reserves decide how long that is worth it:

*slack* is the time that would be left if the run went on on-demand from now to its end. Losing a
spot machine must leave enough of it, so a deadline that on-demand alone keeps is always kept.

*stake* is the money that may be lost on spot: one restart more than what on-demand alone would
have cost, from the beginning or since spot first had no machine. What spot has saved is added.
So a run never costs more than on-demand plus one restart, however often it is taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from kwanzaa_compute.market.costs import billed_units
from kwanzaa_compute.runs.records import AttemptRecord, Fault, Prospect, RunRecord
from kwanzaa_compute.runs.spending import spent_usd

AT_ONCE_S = 180.0
"""A launch that follows the end of the last machine within so many seconds did not have to wait."""

CHANGES_SHARE = 0.05
"""Slack that is kept for later changes between on-demand and spot, as a share of the work left.

Who waits for spot until the last moment can never return to it. On recorded traces 5 % lost the
least for long jobs, and next to nothing for short ones (docs/trace-study.md).
"""

_WORKS = frozenset({"train", "eval", "save"})
_MOST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Outlook:
    """How much time a run with a deadline has. Seconds.

    `left_s` is until the deadline. `share` of the work would be left if its machine were lost
    now. `steady` is the on-demand machine to fall back on; `handover_s` passes between two
    machines, from the end of one to the launch of the next.
    """

    left_s: float
    share: float
    steady: Prospect
    handover_s: float

    @property
    def slack_s(self) -> float:
        """What would be left at the deadline if an on-demand machine were launched now."""
        return self.left_s - self.steady.set_up_s - self.share * self.steady.work_s

    @property
    def least_slack_s(self) -> float:
        """Down to here waiting for a spot machine costs nothing but time.

        A change to on-demand, one back and one more must fit, and some for later ones.
        """
        change_s = self.steady.set_up_s + self.handover_s
        later_s = CHANGES_SHARE * self.share * self.steady.work_s
        return 2 * change_s + self.steady.checkpoint_s + later_s

    def loss_s(self, prospect: Prospect) -> float:
        """The most that losing a machine costs: its set-up, unsaved work, and the handover."""
        return prospect.set_up_s + prospect.checkpoint_s + self.handover_s

    def allows(self, spot: Prospect) -> bool:
        """Whether this spot machine may be lost, and the deadline is kept all the same."""
        return self.slack_s >= self.loss_s(spot)


@dataclass(frozen=True, slots=True)
class Stake:
    """What was spent, and what on-demand alone would have cost in all. Dollars."""

    spent_usd: Decimal
    bound_usd: Decimal

    def allows(self, spot: Prospect, outlook: Outlook) -> bool:
        """Whether one more spot machine may be paid for nothing."""
        steady = outlook.steady
        lost_usd = usd(spot, outlook.loss_s(spot)) + cost_usd(steady, outlook.share)
        one_restart = usd(steady, outlook.loss_s(steady))
        return self.spent_usd + lost_usd <= self.bound_usd + one_restart


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a run goes next, or None to wait for a spot machine; and why, in words."""

    prospect: Prospect | None
    why: str


def choose(
    view: Outlook, staked: Stake, found: Sequence[Prospect], known: Sequence[Prospect]
) -> Choice:
    """Spot while it may be lost without harm, patience while there is slack, else on-demand.

    `found` can be had now, those to be tried last at the end; `known` are all there may ever be.
    """
    slack = f"{max(0.0, view.slack_s) / 3600:.1f} h of slack"
    steady_usd = cost_usd(view.steady, view.share)
    spots = [p for p in known if p.offer.spot and p.work_s > 0]
    cheaper = [p for p in spots if cost_usd(p, view.share) < steady_usd]
    worth = [p for p in cheaper if staked.allows(p, view)]
    spot = next((p for p in found if p in worth and view.allows(p)), None)
    if spot is not None:
        return Choice(spot, f"spot, with {slack}")
    if worth and view.slack_s > view.least_slack_s:
        return Choice(None, f"no spot machine is to be had now; waiting, with {slack}")
    if not cheaper:
        return Choice(view.steady, "nothing is cheaper")
    why = f"{slack} is too little for spot" if worth else "spot has lost as much as it may"
    return Choice(view.steady, f"on-demand: {why}")


def usd(prospect: Prospect, seconds: float) -> Decimal:
    """What so many seconds cost there, in whole billing steps."""
    offer = prospect.offer
    if seconds <= 0 or not offer.usd_per_hour:
        return Decimal(0)
    billed_s = billed_units(seconds, offer.billing_step_s, offer.minimum_s)
    return offer.usd_per_hour * billed_s / 3600


def cost_usd(prospect: Prospect, share: float) -> Decimal:
    """What a fresh machine costs there for that share of the work, if nothing happens."""
    return usd(prospect, prospect.set_up_s + share * prospect.work_s)


def outlook(
    run: RunRecord,
    attempts: Sequence[AttemptRecord],
    prospects: Sequence[Prospect],
    now: float,
    handover_s: float,
) -> Outlook | None:
    """The time that a run has; None where no deadline binds it.

    That is: none was set, it has passed, or there is no on-demand machine of known speed.
    """
    if run.deadline_at is None or now >= run.deadline_at:
        return None
    left_s, share = run.deadline_at - now, share_left(attempts)
    steady = _steady(prospects, share, left_s)
    return None if steady is None else Outlook(left_s, share, steady, handover_s)


def _steady(prospects: Sequence[Prospect], share: float, left_s: float) -> Prospect | None:
    """The cheapest on-demand machine that makes it in time, else the one that is least late."""
    steady = [p for p in prospects if not p.offer.spot and p.work_s > 0]
    if len(steady) <= 1:
        return steady[0] if steady else None
    in_time = [p for p in steady if p.set_up_s + share * p.work_s <= left_s]
    if in_time:
        return min(in_time, key=lambda p: cost_usd(p, share))
    return min(steady, key=lambda p: p.set_up_s + share * p.work_s)


def stake(run: RunRecord, attempts: Sequence[AttemptRecord], steady: Prospect, now: float) -> Stake:
    """The money that a run has at stake, against what `steady` alone would have cost."""
    before = [a for a in attempts if a.intended_at < run.resumed_at]
    current = attempts[len(before) :]
    return Stake(spent_usd(current, now), _bound_usd(run, before, current, steady, now))


def _bound_usd(
    run: RunRecord,
    before: Sequence[AttemptRecord],
    current: Sequence[AttemptRecord],
    steady: Prospect,
    now: float,
) -> Decimal:
    """What on-demand alone would have cost: from the beginning, or since spot had nothing at once.

    Who relaunches at once in the cheapest place would have gone on-demand then, and stayed.
    """
    first = _first_without_spot(run, current, now)
    bound = cost_usd(steady, share_left(before))
    if first is None:
        return bound
    done = current[:first]
    spent = spent_usd(done, now)
    return min(bound, spent + cost_usd(steady, share_left([*before, *done])))


def _first_without_spot(run: RunRecord, current: Sequence[AttemptRecord], now: float) -> int | None:
    """How many attempts had ended when spot first had no machine at once; None: it always had."""
    ready_at = max(run.created_at, run.resumed_at)
    for index, attempt in enumerate(current):
        waited = attempt.intended_at - ready_at > AT_ONCE_S
        if waited or not attempt.spot or attempt.fault is Fault.CAPACITY:
            return index
        ready_at = now if attempt.closed_at is None else attempt.closed_at
    return len(current) if now - ready_at > AT_ONCE_S else None


def share_left(attempts: Sequence[AttemptRecord], *, saves_first: bool = False) -> float:
    """The share of the work that is left from the newest checkpoint; 1 where nothing is known.

    With `saves_first`: from the last step that the trainer told of. A machine may lie about its
    steps. It then spoils the deadline of its own run, and no cap.
    """
    total = next((a.total_steps for a in reversed(attempts) if a.total_steps > 0), 0)
    if not total:
        return 1.0
    step = _step_of(attempts[-1].checkpoint)
    if saves_first:
        step = max(step, attempts[-1].step)
    return min(1.0, max(0.0, 1 - step / total))


def _step_of(checkpoint: str) -> int:
    """The step in a checkpoint's name, `ckpt-<step>-<attempt>`."""
    step = "".join(checkpoint.split("-")[1:2])
    return int(step) if step.isdecimal() and step.isascii() and len(step) < _MOST_DIGITS else 0


def reason_to_leave(
    run: RunRecord,
    attempts: Sequence[AttemptRecord],
    prospects: Sequence[Prospect],
    now: float,
    handover_s: float,
) -> str:
    """Why the last attempt's healthy machine should be left for another, in words; "": stay.

    `prospects` are those that can be had now, best first. A spot machine is left when it proves
    so slow that on-demand must take over; on-demand, when spot is back and there is slack enough.
    """
    attempt = attempts[-1]
    view = outlook(run, attempts, prospects, now, handover_s)
    if view is None or (attempt.phase not in _WORKS and not attempt.spot):
        return ""
    # Whoever leaves saves first, and the change to the next machine has been paid for in time.
    view = replace(
        view, left_s=view.left_s - handover_s, share=share_left(attempts, saves_first=True)
    )
    if attempt.spot:
        # Half a checkpoint is what a trainer that is on time may seem to lag behind.
        late = view.slack_s < view.steady.checkpoint_s / 2
        return (
            f"{max(0.0, view.slack_s) / 60:.0f} min of slack: on-demand from here" if late else ""
        )
    spots = [p for p in prospects if p.offer.spot and p.work_s > 0 and view.allows(p)]
    if not spots:
        return ""
    staked = stake(run, attempts, view.steady, now)
    for spot in spots:
        if staked.allows(spot, view) and _saves(attempt, spot, view):
            where = f"{spot.offer.gpu.name} {spot.offer.region}".rstrip()
            return f"spot machines are back ({where}), with {view.slack_s / 60:.0f} min of slack"
    return ""


def _saves(attempt: AttemptRecord, spot: Prospect, view: Outlook) -> bool:
    """Whether the rest of the work saves more on spot than one more restart there and back."""
    stays = attempt.usd_per_hour * Decimal(view.share * view.steady.work_s) / 3600
    restart = usd(spot, spot.set_up_s) + usd(view.steady, view.steady.set_up_s)
    return stays - usd(spot, view.share * spot.work_s) > restart
