"""The page itself: pictures, tables, premises. Everything that others wrote is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.resources import files

from kwanzaa_compute.market.candidates import Candidate, Refusal
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.plan import Plan
from kwanzaa_compute.report.chart import bills, cost_against_hours, dollars, hours, machine, text

_BEST = 5
_MOST_ROWS = 1000
"""Rows of a table; a page with a hundred thousand helps nobody, and it says what it leaves out."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def plan_page(plan: Plan, *, title: str, warnings: Mapping[str, str] | None = None) -> str:
    """The plan as one HTML page. It asks for nothing, runs nothing, and needs no network."""
    sections = [
        _premises(plan, warnings or {}),
        _section("Cost against time", cost_against_hours(plan.candidates)),
        _section("What the best five bills are made of", bills(_paid(plan))),
        _section(f"Candidates ({len(plan.candidates):,})", _candidates(plan)),
        _section("GPU memory", _sizing(plan)),
        _section(f"Refused offers ({len(plan.refused):,})", _refused(plan)),
    ]
    style = files("kwanzaa_compute.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}: plan</title><style>{style}</style></head><body><main>"
        f"<h1>{text(title)}</h1>{_verdict(plan)}{''.join(sections)}"
        "<footer>Estimates, not quotes. Made by kwanzaa-compute.</footer>"
        "</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of escaped text; a column whose name begins with `>` holds numbers."""
    kinds = [' class="number"' if name.startswith(">") else "" for name in columns]
    head = "".join(
        f"<th{k}>{text(n.lstrip('>'))}</th>" for n, k in zip(columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{whole}</div>'


def _verdict(plan: Plan) -> str:
    best = plan.best
    if best is None:
        return '<p class="verdict">No offer fits this run.</p>'
    return (
        f'<p class="verdict">Cheapest for the whole run: <b>{text(machine(best.offer))}</b>, '
        f"{dollars(best.usd.expected)} expected in {hours(best.hours.expected)}; "
        f"{dollars(best.usd.p95)} once in 20 runs, {dollars(best.usd.worst)} at worst.</p>"
    )


def _premises(plan: Plan, warnings: Mapping[str, str]) -> str:
    work, needs = plan.workload, plan.requirements
    made = "unknown"
    if plan.made_at is not None:
        made = datetime.fromtimestamp(plan.made_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = [
        (
            "work",
            f"{work.tokens_per_epoch:,} tokens x {work.epochs:g} epochs, {work.steps:,} steps",
        ),
        ("a step", f"{work.rows_per_step} rows of {work.row_tokens:,} tokens"),
        ("GPU memory", f"{needs.vram_gib:.1f} GiB"),
        ("disk", f"{needs.disk_gib:.0f} GiB"),
        ("cap", "none" if needs.max_usd is None else dollars(needs.max_usd)),
        ("limit", "none" if needs.max_hours is None else hours(needs.max_hours)),
        ("deadline", "none" if needs.deadline_h is None else hours(needs.deadline_h)),
        ("made", made),
        ("prices", _ages(plan)),
        *((f"{name} could not be asked", why) for name, why in warnings.items()),
    ]
    return _section("Premises", _table(("premise", "value"), rows))


def _ages(plan: Plan) -> str:
    offers = [c.offer for c in plan.candidates] + [r.offer for r in plan.refused]
    dates = sorted({offer.as_of[:10] for offer in offers if offer.as_of})
    if not dates:
        return "without a date"
    span = f"of {dates[0]} to {dates[-1]}" if dates[0] != dates[-1] else f"of {dates[0]}"
    best = plan.best
    return span if best is None else f"{span}; the best one's: {_age(best.offer, plan.made_at)}"


def _age(offer: Offer, now: float | None) -> str:
    try:
        then = date.fromisoformat(offer.as_of[:10])
    except ValueError:
        return "unknown"
    if now is None:
        return offer.as_of[:10]
    days = (datetime.fromtimestamp(now, UTC).date() - then).days
    return "today" if days <= 0 else f"{days:,} d"


def _price(offer: Offer) -> str:
    if offer.own_machine:
        return "free"
    return "unknown" if offer.usd_per_hour is None else f"${offer.usd_per_hour:f}"


def _paid(plan: Plan) -> list[Candidate]:
    found = []
    for candidate in plan.candidates:
        if candidate.usd.expected > 0:
            found.append(candidate)
        if len(found) == _BEST:
            break
    return found


def _candidates(plan: Plan) -> str:
    rows = [
        (
            str(number),
            machine(c.offer),
            c.offer.region or "-",
            _price(c.offer),
            hours(c.hours.expected),
            f"{c.set_up_share:.0%}",
            dollars(c.usd.expected),
            dollars(c.usd.p95),
            dollars(c.usd.worst),
            _age(c.offer, plan.made_at),
            "; ".join((c.offer.source, *c.marks)),
        )
        for number, c in enumerate(plan.candidates[:_MOST_ROWS], start=1)
    ]
    columns = (">", "machine", "region", ">$/h", ">time", ">set-up", ">expected", ">1 in 20")
    table = _table((*columns, ">worst", ">price age", "source and notes"), rows)
    return table + _left_out(len(plan.candidates))


def _refused(plan: Plan) -> str:
    return _table(
        ("machine", "region", "id", ">$/h", ">price age", "why"),
        [_refusal(r, plan.made_at) for r in plan.refused[:_MOST_ROWS]],
    ) + _left_out(len(plan.refused))


def _refusal(refusal: Refusal, now: float | None) -> tuple[str, ...]:
    offer = refusal.offer
    return (
        machine(offer),
        offer.region or "-",
        offer.id,
        _price(offer),
        _age(offer, now),
        refusal.reason,
    )


def _left_out(count: int) -> str:
    left = count - _MOST_ROWS
    return f'<p class="small">... and {left:,} more; --json has all.</p>' if left > 0 else ""


def _sizing(plan: Plan) -> str:
    rows = [(line.what, f"{line.gib:.3f}", line.why) for line in plan.sizing.lines]
    rows.append(("in all", f"{plan.sizing.total_gib:.3f}", ""))
    return _table(("part", ">GiB", "how"), rows)
