"""The plot of `trace_study.py`: what each policy paid, in multiples of the optimum. Plain SVG."""

import math
from collections.abc import Sequence
from typing import Protocol

WIDTH, LEFT, RIGHT, TOP, ROW = 900, 300, 40, 58, 26
_TICKS = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
_MOST = 6.4
_SERIES = (
    ("recovery", "recovery", "ours"),
    ("at_once", "at once, in the cheapest place", "naive"),
    ("on_demand", "on-demand only", "alone"),
)
# An image knows nothing of the page around it, so it brings its own colours for light and dark.
_STYLE = """
svg { font: 13px system-ui, sans-serif; background: #ffffff; }
text { fill: #1b1f24; } .dim { fill: #59636e; } .grid { stroke: #d1d9e0; }
.ours { fill: #0a58ca; } .naive { fill: #b35900; } .alone { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; } .dim { fill: #9198a1; } .grid { stroke: #3d444d; }
  .ours { fill: #6cb0ff; } .naive { fill: #f0883e; } .alone { fill: #7d8590; }
}
"""


class Costs(Protocol):
    """What the plot shows of a row."""

    @property
    def traces(self) -> str:
        """The name of the traces."""

    @property
    def job_h(self) -> float:
        """Hours of work."""

    @property
    def deadline(self) -> float:
        """The deadline, in multiples of that."""

    @property
    def optimum(self) -> float:
        """Dollars, as the others."""


def chart(rows: Sequence[Costs]) -> str:
    """A line for each row, with a mark for each policy; the axis is logarithmic."""
    bottom = TOP + ROW * len(rows) + 6
    marks = "".join(_line(row, TOP + ROW * number + 14) for number, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" role="img"'
        ' aria-label="What each policy paid, in multiples of the optimum">'
        f"<style>{_STYLE}</style>{_legend()}{_grid(bottom)}{marks}</svg>\n"
    )


def _at(multiple: float) -> float:
    share = math.log(min(max(multiple, 1.0), _MOST)) / math.log(_MOST)
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _legend() -> str:
    parts, x = [], 14
    for _, words, kind in _SERIES:
        parts.append(f'{_mark(kind, x, 20)}<text x="{x + 12}" y="24">{words}</text>')
        x += 40 + 7 * len(words)
    return "".join(parts)


def _grid(bottom: int) -> str:
    parts = [
        f'<line class="grid" x1="{_at(tick):.1f}" y1="{TOP - 12}" x2="{_at(tick):.1f}"'
        f' y2="{bottom}"/><text class="dim" x="{_at(tick):.1f}" y="{bottom + 18}"'
        f' text-anchor="middle">{tick:g}x</text>'
        for tick in _TICKS
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="dim" x="{middle}" y="{bottom + 38}" text-anchor="middle">'
        "mean cost, in multiples of the clairvoyant optimum</text>"
    )
    return "".join(parts)


def _line(row: Costs, y: int) -> str:
    words = f"{row.traces}: {row.job_h:g} h in {row.deadline:g}x"
    parts = [f'<text x="8" y="{y + 4}">{words}</text>']
    for name, said, kind in reversed(_SERIES):
        multiple = getattr(row, name) / row.optimum
        title = f"<title>{words}, {said}: {multiple:.2f}x</title>"
        parts.append(_mark(kind, _at(multiple), y, title))
    return "".join(parts)


def _mark(kind: str, x: float, y: int, title: str = "") -> str:
    """A circle, a diamond or a square: colour is never the only difference."""
    if kind == "ours":
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="6">{title}</circle>'
    if kind == "naive":
        turn = f'transform="rotate(45 {x:.1f} {y})"'
        return (
            f'<rect class="{kind}" x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9" {turn}>'
            f"{title}</rect>"
        )
    return (
        f'<rect class="{kind}" x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9">{title}</rect>'
    )
