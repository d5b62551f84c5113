"""A plan that was saved is applied at today's price, or refused with the reason."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc

Cli = Callable[..., Any]


@pytest.fixture
def saved(cli: Cli, config: Path, moonbase: str, tmp_path: Path) -> Path:
    """A plan for the moonbase at a dollar an hour, with a cap of five dollars."""
    path = tmp_path / "plan.json"
    done = cli("plan", config, "--provider", moonbase, "--max-usd", "5", "--save", path)
    assert done.code == 0, done.err
    return path


def reprice(monkeypatch: pytest.MonkeyPatch, usd_per_hour: str | None) -> None:
    """Changes what the moonbase asks for an hour; None: it sells nothing any more."""
    driver = importlib.import_module("moonbase").Driver
    sold = list(driver.offers(None))
    new = [replace(offer, usd_per_hour=Decimal(usd_per_hour)) for offer in sold if usd_per_hour]
    monkeypatch.setattr(driver, "offers", lambda _self: new)


def test_the_same_offer_is_quoted_again(
    saved: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reprice(monkeypatch, "0.5")
    applied = kc.Compute().apply(config, saved)
    (candidate,) = applied.planned.plan.candidates
    assert candidate.offer.usd_per_hour == Decimal("0.5")
    assert applied.saved.offer.usd_per_hour == Decimal("1.00")
    assert applied.planned.max_usd == Decimal(5)


def test_the_lower_of_two_caps_holds_and_the_command_line_wins(saved: Path, config: Path) -> None:
    assert kc.Compute().apply(config, saved).planned.max_usd == Decimal(5)
    options = kc.Options(max_usd=Decimal(7))
    assert kc.Compute().apply(config, saved, options).planned.max_usd == Decimal(7)


def test_a_price_that_went_past_the_cap_is_refused(
    cli: Cli, saved: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reprice(monkeypatch, "10000")
    done = cli("train", config, "--plan", saved, "--yes")
    assert done.code == kc.BudgetError.exit_code
    assert "more than the cap of $5" in done.err
    assert kc.Compute().runs() == []


def test_an_offer_that_is_no_longer_sold_is_refused(
    cli: Cli, saved: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reprice(monkeypatch, None)
    done = cli("train", config, "--plan", saved, "--yes")
    assert done.code == kc.NothingFitsError.exit_code
    assert "moonbase l4 (L4) is no longer sold" in done.err
    assert "--save" in done.err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', "null"])
def test_a_file_that_is_no_plan_is_a_usage_error(
    cli: Cli, config: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    done = cli("train", config, "--plan", path, "--yes")
    assert done.code == kc.UsageError.exit_code
    assert str(path) in done.err


def test_a_missing_file_is_a_usage_error(cli: Cli, config: Path, tmp_path: Path) -> None:
    done = cli("train", config, "--plan", tmp_path / "none.json", "--yes", "--json")
    assert done.code == kc.UsageError.exit_code
    assert json.loads(done.out)["error"]["exit"] == kc.UsageError.exit_code
