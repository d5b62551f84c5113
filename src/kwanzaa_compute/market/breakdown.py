"""The bill of one candidate, part by part, so that the parts add up to the total exactly."""

from decimal import Decimal

from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.costs import Cost, CostLine, Course, Estimate, time_cost_micro, usd
from kwanzaa_compute.market.costs import price_micro as micro_of
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.quotes import Asked, Quote, course_seconds, fallback_mark, with_buffer


def candidate_for(
    offer: Offer, quoted: Quote, asked: Asked, price_age_days: int | None
) -> Candidate:
    """The candidate that an offer is, with its whole bill. The quote must not be a refusal."""
    went, training = quoted.courses, quoted.training
    if went is None or training is None:
        raise ValueError("a refused offer has no bill")
    price = 0 if offer.own_machine else micro_of(offer.usd_per_hour) or 0
    lines = () if offer.own_machine else _lines(price, quoted, asked)
    expected = sum((line.usd for line in lines), Decimal(0))
    p95 = max(expected, _total(price, went.p95, offer, quoted, asked))
    worst = max(p95, _total(price, went.worst, offer, quoted, asked))
    marks = _marks(offer, p95, asked, price_age_days)
    return Candidate(
        offer=offer,
        hours=Estimate(
            min(went.best.wall_s, went.expected.wall_s) / 3600,
            went.expected.wall_s / 3600,
            went.p95.wall_s / 3600,
        ),
        usd=Cost(expected, p95, worst) if price else Cost(Decimal(0), Decimal(0), Decimal(0)),
        billed_hours=quoted.billed_s / 3600,
        lines=lines or _free_lines(went.expected),
        speed=training,
        checkpoint_every_s=quoted.checkpoint_every_s,
        marks=marks,
    )


def _free_lines(course: Course) -> tuple[CostLine, ...]:
    return tuple(CostLine(what, s, Decimal(0), why) for what, s, why in course.parts)


def _lines(price: int, quoted: Quote, asked: Asked) -> tuple[CostLine, ...]:
    """Each part is the difference of two rounded sums, so nothing is lost between them."""
    lines, seconds, paid = [], 0.0, 0
    parts = quoted.courses.expected.parts if quoted.courses else ()
    for what, part_s, why in parts:
        seconds += part_s
        so_far = int(price * seconds / 3600)
        lines.append(CostLine(what, part_s, usd(so_far - paid), why))
        paid = so_far
    whole = time_cost_micro(price, quoted.billed_s)
    rounding_s = quoted.billed_s - seconds
    lines.append(
        CostLine("rounding up", rounding_s, usd(whole - paid), "to the billing step and minimum")
    )
    bill = whole + quoted.fixed_micro
    if quoted.disk_micro:
        lines.append(CostLine("disk", 0.0, usd(quoted.disk_micro), "while the machine is up"))
    if quoted.egress_micro:
        lines.append(CostLine("data out", 0.0, usd(quoted.egress_micro), "the adapter"))
    buffer = asked.settings.extras.buffer
    if buffer > 0:
        extra = with_buffer(bill, buffer) - bill
        lines.append(CostLine("buffer", 0.0, usd(extra), f"{buffer * 100:g} % as asked"))
    return tuple(lines)


def _total(price: int, course: Course, offer: Offer, quoted: Quote, asked: Asked) -> Decimal:
    """What a worse course costs; the caps on money and hours end it where there are any."""
    seconds, step_s = course_seconds(course, offer), max(1, offer.billing_step_s)
    wanted = asked.requirements
    if wanted.max_hours is not None:
        seconds = min(seconds, -(-int(wanted.max_hours * 3600) // step_s) * step_s)
    disk = quoted.disk_micro * seconds // max(1, quoted.billed_s)
    micro = time_cost_micro(price, seconds) + disk + quoted.egress_micro
    micro = with_buffer(micro, asked.settings.extras.buffer)
    total = usd(micro)
    if wanted.max_usd is not None:
        total = min(total, wanted.max_usd + usd(time_cost_micro(price, step_s)))
    return total


def _marks(offer: Offer, p95: Decimal, asked: Asked, price_age_days: int | None) -> tuple[str, ...]:
    marks = [fallback_mark(offer.gpu, asked)]
    settings, cap = asked.settings, asked.requirements.max_usd
    if not offer.own_machine:
        if settings.now is not None and price_age_days is None:
            marks.append("the age of this price is unknown")
        elif price_age_days is not None and (
            offer.cached or price_age_days > settings.stale_after_days
        ):
            marks.append(_aged(offer, price_age_days))
        if cap is not None and p95 >= cap:
            marks.append("1 in 20 such runs reaches the cap before its end")
    return tuple(mark for mark in marks if mark)


def _aged(offer: Offer, days: int) -> str:
    """How old a price is, said of all that are old and of each that was not asked for today."""
    day = offer.as_of[:10]
    age = {0: "of today", 1: "a day old"}.get(days, f"{days} days old")
    return f"price as last told on {day}, {age}" if offer.cached else f"price of {day}, {age}"
