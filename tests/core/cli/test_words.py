"""How values are put into words, and that nobody else's text can steer the terminal."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwanzaa_compute.cli.screen import sound
from kwanzaa_compute.cli.words import about, clean, duration, figure, many, number, usd, whole


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\rb\x08c\x00", "abc"),
        ("\u202edetrevni\u2066", "detrevni"),
        ("one\ntwo\tthree", "one two    three"),
        ("\x9b31mred", "31mred"),
        ("half \ud800", "half"),
    ],
)
def test_somebody_elses_text_is_made_harmless(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_no_text_leaves_a_character_that_a_terminal_obeys(text: str) -> None:
    for shown in (clean(text), clean(text, lines=True).replace("\n", "")):
        assert all(c.isprintable() or c == " " or ord(c) > 0x9F for c in shown)
        assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "-"),
        (Decimal(0), "$0.00"),
        (Decimal("0.0123"), "$0.0123"),
        (Decimal("0.5"), "$0.50"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_small_amounts_keep_their_digits(amount: Decimal | None, shown: str) -> None:
    assert usd(amount) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (float("inf"), "-"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (125, "2 min 05 s"),
        (7800, "2 h 10 min"),
        (86400, "24 h"),
    ],
)
def test_time_spans_have_two_units_at_most(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_estimates_are_no_more_exact_than_they_are() -> None:
    assert [about(h) for h in (0.005, 0.36, 3.512)] == ["18 s", "22 min", "3.5 h"]


@pytest.mark.parametrize("value", [None, "7", True, float("nan"), float("inf"), [], 10**400])
def test_what_is_no_number_is_not_shown_as_one(value: object) -> None:
    assert number(value) is None
    assert whole(value) == 0
    assert figure(value) == "-"


def test_counts_have_their_plural() -> None:
    assert (many(1, "run"), many(1200, "run")) == ("1 run", "1,200 runs")


def test_json_holds_no_nan_and_no_float_money() -> None:
    document = {"a": float("nan"), "b": Decimal("0.10"), "c": frozenset({"y", "x"}), "d": (1, True)}
    assert sound(document) == {"a": None, "b": "0.10", "c": ["x", "y"], "d": [1, True]}
