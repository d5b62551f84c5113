"""A provider's last answer stands in where it cannot be asked: shown with its age, never bought."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.market.candidates import Reason

Cli = Callable[..., Any]
SELENE = '''\
"""A provider whose price list is a file; without the file it cannot be asked."""

import json
import os
from decimal import Decimal
from pathlib import Path

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl
from kwanzaa_compute.errors import TransientError
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Availability, Offer

FEATURES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE})


@hookimpl
def kwanzaa_providers():
    driver = "selene:Driver"
    return [ProviderInfo(NAME, "Selene", driver, store_schemes=("file",), features=FEATURES)]


NAME = "runpod" if os.environ.get("SELENE_IS_RUNPOD") else "selene"


class Driver:
    features = FEATURES

    def __init__(self, context):
        self.key, self.list = context.environment["SELENE_KEY"], context.environment["SELENE_LIST"]

    def offers(self):
        for name, price in json.loads(Path(self.list).read_text()).items():
            yield Offer(
                provider=NAME,
                id=name,
                gpu=find_gpu(name),
                usd_per_hour=Decimal(price),
                availability=Availability.AVAILABLE,
                source="price list",
            )

    def fleet(self):
        return []

    def classify(self, error):
        return TransientError("no price list")
'''


@pytest.fixture
def price_list(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the provider; what it sells stands in this file."""
    folder = tmp_path / "site"
    about = folder / "selene-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "selene.py").write_text(SELENE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: selene\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[kwanzaa_compute]\nselene = selene\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "selene", raising=False)
    path = tmp_path / "list.json"
    path.write_text('{"L4": "0.40", "T4": "0.30"}')
    monkeypatch.setenv("SELENE_LIST", str(path))
    monkeypatch.setenv("SELENE_KEY", "sk-very-secret")
    return path


def plan_at(config: Path, days: float, **options: Any) -> kc.Planned:
    """A plan made so many days from now."""
    now = Clock().now() + days * 86_400
    compute = kc.Compute(clock=Clock(now=lambda: now))
    return compute.plan(config, kc.Options(providers=("selene",), **options))


def test_a_live_answer_is_used_and_kept_without_any_secret(
    cli: Cli, config: Path, price_list: Path, home: Path
) -> None:
    plan = cli("plan", config, "--provider", "selene", "--json").json
    assert {c["offer"]["cached"] for c in plan["candidates"]} == {False}
    assert plan["cached"] == {}
    (kept,) = (home / "prices").iterdir()
    assert kept.name == "selene.json"
    assert "sk-very-secret" not in kept.read_text()


def test_offline_the_last_answer_is_shown_with_its_age(
    cli: Cli, config: Path, price_list: Path
) -> None:
    cli("offers", "--provider", "selene")
    price_list.write_text('{"L4": "9.00"}')
    result = cli("plan", config, "--provider", "selene", "--offline", "--json")
    plan = result.json
    assert list(plan["cached"]) == ["selene"]
    assert "selene was not asked: this shows its answer of 20" in result.err
    best = plan["candidates"][0]
    assert best["offer"]["usd_per_hour"] == "0.30"
    assert any("price as last told on 20" in mark for mark in best["marks"])
    shown = cli("offers", "--provider", "selene", "--offline")
    assert "answer of 20" in shown.out
    assert "today" in shown.out


def test_a_provider_that_cannot_be_asked_is_a_warning_and_its_last_answer_is_not_bought(
    cli: Cli, config: Path, price_list: Path
) -> None:
    words = ("--provider", "selene", "--max-usd", "5")
    assert cli("plan", config, *words).code == 0
    price_list.unlink()
    planned = cli("plan", config, *words)
    assert planned.code == 0
    assert "selene could not be asked: no price list; this shows its answer of 20" in planned.err
    bought = cli("train", config, *words, "--yes")
    assert bought.code == kc.TransientError.exit_code
    assert "at an old price (selene: no price list)" in bought.err
    assert kc.Compute().runs() == []


def test_age_is_marked_and_beyond_the_limit_refused(config: Path, price_list: Path) -> None:
    plan_at(config, 0)
    old = plan_at(config, 200, offline=True).plan
    assert old.best is not None
    assert any("200 days old" in mark for mark in old.best.marks)
    too_old = plan_at(config, 271, offline=True).plan
    assert {(r.code, r.offer.provider) for r in too_old.refused} == {(Reason.PRICE_OLD, "selene")}
    assert "the limit is 270" in too_old.refused[0].reason
    assert too_old.best is None


def test_a_provider_that_sells_nothing_now_is_believed(config: Path, price_list: Path) -> None:
    plan_at(config, 0)
    price_list.write_text("{}")
    planned = plan_at(config, 0)
    assert len(planned.plan.candidates) + len(planned.plan.refused) == 0
    assert planned.for_sale.live == {"selene"}


@pytest.mark.parametrize("damage", ["", "{", "null", '{"schema": 9}', "\x00"])
def test_a_damaged_cache_stops_no_plan(
    cli: Cli, config: Path, price_list: Path, home: Path, damage: str
) -> None:
    cli("offers", "--provider", "selene")
    (home / "prices" / "selene.json").write_text(damage)
    assert cli("plan", config, "--provider", "selene", "--offline").code == 4
    assert cli("plan", config, "--offline").code == 0
    assert cli("plan", config, "--provider", "selene").code == 0
    assert json.loads((home / "prices" / "selene.json").read_text())["provider"] == "selene"


@pytest.mark.parametrize(("asked_at", "cached"), [(None, True), (1.6e9, False)])
def test_the_newer_of_last_answer_and_bundled_prices_counts(
    price_list: Path, monkeypatch: pytest.MonkeyPatch, asked_at: float | None, cached: bool
) -> None:
    monkeypatch.setenv("SELENE_IS_RUNPOD", "yes")
    now = asked_at or Clock().now()
    kc.Compute(clock=Clock(now=lambda: now)).known_offers(["runpod"])
    known = kc.Compute().known_offers(["runpod"], offline=True)
    assert {offer.cached for offer in known.offers} == {cached}
    live = kc.Compute().known_offers()
    assert {o.id for o in live.offers if o.provider == "runpod"} == {"L4", "T4"}
    assert {"lambda", "azureml", "local"} <= {o.provider for o in live.offers}
