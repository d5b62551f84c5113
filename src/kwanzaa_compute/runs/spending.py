"""What attempts cost, and what a cap still allows. Pure, exact, always rounded against us."""

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from kwanzaa_compute.runs.records import AttemptRecord

_HOUR_S = Decimal(3600)


def billed_usd(attempt: AttemptRecord, now: float) -> Decimal:
    """Dollars that an attempt has cost at time `now`: our clock, the quoted rate, whole steps.

    Counted from the intent to launch until proven absence, so it is never less than what the
    provider can have billed at that rate.
    """
    if not attempt.usd_per_hour or attempt.closed_at == attempt.intended_at:
        return Decimal(0)  # ... or provably never created
    return _usd(attempt, attempt.billed_s(now))


def committed_usd(attempt: AttemptRecord, now: float) -> Decimal:
    """Dollars that an attempt costs if it lives to the end of its time, and takes long to end."""
    if attempt.closed_at is not None or not attempt.usd_per_hour:
        return billed_usd(attempt, now)
    lives_s = attempt.max_hours * 3600 + attempt.reserve_s
    return _usd(attempt, max(attempt.billed_s(now), lives_s))


def asked_usd(attempt: AttemptRecord) -> Decimal:
    """Dollars of the time that an attempt asks for, not yet rounded up to a billing step.

    It is what `affordable_hours` has allowed, so the two agree to a hundredth of a cent.
    """
    lives_s = Decimal(max(attempt.max_hours * 3600 + attempt.reserve_s, attempt.minimum_s))
    return (lives_s * attempt.usd_per_hour / _HOUR_S).quantize(Decimal("0.0001"), ROUND_FLOOR)


def _usd(attempt: AttemptRecord, lived_s: float) -> Decimal:
    step = Decimal(attempt.billing_step_s)
    seconds = Decimal(max(lived_s, attempt.minimum_s))
    steps = (seconds / step).to_integral_value(ROUND_CEILING)
    return steps * step * attempt.usd_per_hour / _HOUR_S


def spent_usd(attempts: Iterable[AttemptRecord], now: float) -> Decimal:
    """Dollars that all these attempts have cost at time `now`."""
    return sum((billed_usd(attempt, now) for attempt in attempts), Decimal(0))


def affordable_hours(
    left_usd: Decimal | None,
    usd_per_hour: Decimal,
    *,
    billing_step_s: int,
    minimum_s: int,
    stop_reserve_s: float,
    max_hours: float,
) -> float:
    """Hours that a machine may live: within the limit and the dollars that are left.

    The time that ending it takes (`stop_reserve_s`) is kept back, and what remains is rounded
    down to a billing step. What is billed in any case (`minimum_s`) must be paid for as well.
    Zero or less means: do not launch.
    """
    if left_usd is None or not usd_per_hour:
        return max_hours
    paid_s = left_usd / usd_per_hour * _HOUR_S
    if paid_s < minimum_s:
        return 0.0
    seconds = paid_s - Decimal(stop_reserve_s)
    step = Decimal(billing_step_s)
    whole = (seconds / step).to_integral_value(ROUND_FLOOR) * step
    return min(max_hours, float(whole / _HOUR_S))
