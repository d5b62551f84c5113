"""The two pictures of a plan as inline SVG: cost against hours, and the parts of each bill."""

import math
from collections.abc import Sequence
from decimal import Decimal
from html import escape

from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.offers import Offer

WIDTH, HEIGHT = 900, 380
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 18, 50
_MOST_POINTS = 2000
"""Candidates that are drawn; the front is always among them, and the caption says how many."""
_LABEL_GAP = 17
_LETTER = 7.2
"""What a letter of a name takes, at most, in the picture's units."""
_TIMES_H = (
    *(minutes / 60 for minutes in (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 45)),
    *(1, 1.5, 2, 3, 5, 8, 12, 24, 48, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000),
)
_MOST_TICKS = 10
_MANY_POWERS = 3
_LETTERS = 32
_IN_HOURS = 2.0
"""From here on a time is said in hours."""
_BAR, _ROW = 22, 52

GROUPS: Sequence[tuple[str, frozenset[str]]] = (
    ("set-up", frozenset({"boot", "image", "install", "model download", "model load"})),
    ("training", frozenset({"training"})),
    (
        "evaluation and trials",
        frozenset({"evaluation", "answers", "validation", "experimentation"}),
    ),
    ("checkpoints and interruptions", frozenset({"checkpoints", "interruptions"})),
    ("rounding, disk, data out", frozenset({"rounding up", "after the end", "disk", "data out"})),
    ("buffer", frozenset({"buffer"})),
)
"""The parts of a bill as the picture shows them; their classes are `part0`, `part1` and so on."""


def text(words: object) -> str:
    """Somebody else's words, harmless in HTML: escaped, and without control characters."""
    return escape("".join(c if c.isprintable() else " " for c in str(words)))


def machine(offer: Offer) -> str:
    """A machine in words: `runpod 2x A100-80GB spot`."""
    count = f"{offer.gpu_count}x " if offer.gpu_count > 1 else ""
    several = f" on {offer.machines} machines" if offer.machines > 1 else ""
    return f"{offer.provider} {count}{offer.gpu.name}{several}{' spot' if offer.spot else ''}"


def dollars(amount: Decimal) -> str:
    """Dollars, more exact where there is less than one."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def hours(value: float) -> str:
    """Hours, or minutes where there is less than two hours."""
    return f"{value:,.1f} h" if value >= _IN_HOURS else f"{value * 60:,.1f} min"


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those to which no other is both cheaper and quicker, the cheapest first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.usd.expected, c.hours.expected)):
        if not front or candidate.hours.expected < front[-1].hours.expected:
            front.append(candidate)
    return front


def cost_against_hours(candidates: Sequence[Candidate]) -> str:
    """Every candidate as a point on logarithmic axes, and the Pareto front as a line."""
    paid = [c for c in candidates if c.usd.expected > 0]
    if not paid:
        return "<p>Nothing here costs anything, so there is no picture of costs.</p>"
    front = pareto(paid)
    shown = paid[:_MOST_POINTS]
    across = _Axis([c.hours.expected for c in [*shown, *front]], LEFT, WIDTH - RIGHT)
    up = _Axis([float(c.usd.expected) for c in [*shown, *front]], HEIGHT - BOTTOM, TOP, 2.5)
    on_front = {id(c) for c in front}
    points = "".join(_point(c, across, up, "point") for c in shown if id(c) not in on_front)
    best = "".join(_point(c, across, up, "front") for c in front)
    path = " ".join(
        f"{across.at(c.hours.expected):.1f},{up.at(float(c.usd.expected)):.1f}" for c in front
    )
    more = "" if len(shown) == len(paid) else f" The cheapest {len(shown):,} of {len(paid):,}."
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="Cost against hours of {len(paid)} candidates">'
        f"{_grid(across, up)}"
        f'<polyline class="line" points="{path}"/>{points}{best}{_labels(front, across, up)}</svg>'
        f'<p class="small">Both axes are logarithmic. Filled: no other machine is both cheaper and'
        f" quicker (the Pareto front).{more}</p>"
    )


class _Axis:
    """A logarithmic axis between two places in the picture."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, room: float = 0.0
    ) -> None:
        """`room` is left free at the low end, as a multiple of the margin."""
        positive = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
        low, high = math.log10(min(positive)), math.log10(max(positive))
        margin = max(0.06 * (high - low), 0.12)
        self.low, self.high = low - margin * (1 + room), high + margin
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """Where a value stands in the picture."""
        share = (math.log10(max(value, 1e-12)) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values inside: 1, 2 and 5 times powers of ten, thinned out where there are many."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        steps = (1, 2, 5) if self.high - self.low < _MANY_POWERS else (1,)
        found = [step * 10.0**power for power in powers for step in steps]
        return [value for value in found if self.low <= math.log10(value) <= self.high]


def _grid(across: _Axis, up: _Axis) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    times = [h for h in _TIMES_H if across.low <= math.log10(h) <= across.high]
    for value in times[:: 1 + len(times) // _MOST_TICKS]:
        x = across.at(value)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{_time(value)}</text>"
        )
    for value in up.ticks():
        y = up.at(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">${value:g}</text>'
        )
    parts.append(
        f'<text class="axis" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        "expected time until the adapter is there</text>"
        f'<text class="axis" transform="translate(16 {(TOP + bottom) / 2}) rotate(-90)"'
        ' text-anchor="middle">expected cost of the whole run</text>'
    )
    return "".join(parts)


def _time(value_h: float) -> str:
    return f"{value_h:g} h" if value_h >= 1 else f"{value_h * 60:g} min"


def _point(candidate: Candidate, across: _Axis, up: _Axis, kind: str) -> str:
    x, y = across.at(candidate.hours.expected), up.at(float(candidate.usd.expected))
    words = f"{machine(candidate.offer)} {candidate.offer.region}".strip()
    said = f"{words}: {dollars(candidate.usd.expected)}, {hours(candidate.hours.expected)}"
    radius = 6 if kind == "front" else 4
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{text(said)}</title></circle>"
    )


def _labels(front: Sequence[Candidate], across: _Axis, up: _Axis) -> str:
    """Names of the front, below and left of their points: nothing else can lie there."""
    parts, taken = [], list[tuple[float, float, float]]()
    for candidate in front:
        x, y = across.at(candidate.hours.expected), up.at(float(candidate.usd.expected))
        name = machine(candidate.offer)
        name = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}\u2026"
        start = max(LEFT + 4.0, x - 6 - _LETTER * len(name))
        end, at = start + _LETTER * len(name), y + 18
        while any(abs(at - b) < _LABEL_GAP and start < e and s < end for b, s, e in taken):
            at += _LABEL_GAP
        if at > min(HEIGHT - BOTTOM - 4, y + 18 + 2 * _LABEL_GAP):
            continue  # its name is in the table, and in what the pointer shows
        taken.append((at, start, end))
        parts.append(
            f'<text class="name" x="{end:.1f}" y="{at:.1f}" text-anchor="end">{text(name)}</text>'
        )
    return "".join(parts)


def bills(candidates: Sequence[Candidate]) -> str:
    """A bar for each candidate, of the parts that make up its bill."""
    most = max((float(c.usd.expected) for c in candidates), default=0.0)
    if most <= 0:
        return "<p>Nothing here costs anything, so there is no bill to break down.</p>"
    room = WIDTH - 110
    parts = []
    for row, candidate in enumerate(candidates):
        y, x = row * _ROW, 0.0
        parts.append(
            f'<text class="label" x="0" y="{y + 16}">{text(machine(candidate.offer))}</text>'
        )
        for number, (name, names) in enumerate(GROUPS):
            paid = sum((ln.usd for ln in candidate.lines if ln.what in names), Decimal(0))
            width = float(paid) / most * room
            if width > 0:
                parts.append(
                    f'<rect class="part{number}" x="{x:.1f}" y="{y + 22}" width="{width:.1f}"'
                    f' height="{_BAR}"><title>{name}: {dollars(paid)}</title></rect>'
                )
            x += max(0.0, width)
        total = dollars(candidate.usd.expected)
        parts.append(f'<text class="label" x="{x + 8:.1f}" y="{y + 38}">{total}</text>')
    legend = "".join(
        f'<span class="key"><i class="part{number}"></i>{name}</span>'
        for number, (name, _) in enumerate(GROUPS)
    )
    return (
        f'<p class="legend">{legend}</p><svg viewBox="0 0 {WIDTH} {_ROW * len(candidates)}"'
        f' role="img" aria-label="What each bill is made of">{"".join(parts)}</svg>'
    )
