"""Values as people read them. Text from machines and providers is made harmless here."""

import math
import re
from decimal import Decimal
from typing import Any

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links and other strings
    r"|\x1b[ -/]*[0-~]",
    re.DOTALL,
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # invisible, or turning the line around
    "\ud800-\udfff]"
)
_SMALL_USD = Decimal("0.1")
_MINUTE_S = 60
_HOUR_S = 3600


def clean(text: object, *, lines: bool = False) -> str:
    """Somebody else's text without anything that a terminal would obey.

    With `lines` line breaks stay; without, the text becomes one line.
    """
    plain = _CONTROLS.sub("", _ESCAPES.sub("", str(text).replace("\r\n", "\n")))
    plain = plain.replace("\t", "    ")
    return plain if lines else " ".join(plain.split("\n")).strip()


def number(value: Any) -> float | None:
    """A finite number as a float; None for whatever else a machine may have written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: Any) -> int:
    """A whole number from zero up; zero for whatever else a machine may have written."""
    figure = number(value)
    return int(figure) if figure is not None and figure > 0 else 0


def digits_for(amount: Decimal) -> int:
    """Decimals that an amount of dollars needs: cents, or hundredths of one where it is small."""
    return 4 if 0 < abs(amount) < _SMALL_USD else 2


def usd(amount: Decimal | None, digits: int | None = None) -> str:
    """Dollars, with as many decimals as the amount needs unless `digits` says how many."""
    if amount is None:
        return "-"
    return f"${amount:,.{digits_for(amount) if digits is None else digits}f}"


def duration(seconds: float | None) -> str:
    """A time span in two units at most: `42 s`, `3 min 05 s`, `2 h 10 min`, `24 h`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    total = max(0, round(seconds))
    if total < _MINUTE_S:
        return f"{total} s"
    if total < _HOUR_S:
        return f"{total // _MINUTE_S} min {total % _MINUTE_S:02} s"
    minutes = total % _HOUR_S // _MINUTE_S
    return f"{total // _HOUR_S} h {minutes:02} min" if minutes else f"{total // _HOUR_S} h"


def hours(value: float | None) -> str:
    """A number of hours as a time span."""
    return duration(None if value is None else value * _HOUR_S)


def about(value: float) -> str:
    """An estimated number of hours, no more exact than estimates are: `30 s`, `22 min`, `3.5 h`."""
    minutes = value * 60
    if minutes < 1:
        return f"{value * _HOUR_S:.0f} s"
    return f"{minutes:.0f} min" if minutes < 2 * _MINUTE_S else f"{value:.1f} h"


def figure(value: Any, digits: int = 3) -> str:
    """A measured number with so many decimals, or a dash."""
    plain = number(value)
    return "-" if plain is None else f"{plain:.{digits}f}"


def many(count: int, what: str) -> str:
    """`1 offer`, `2 offers`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
