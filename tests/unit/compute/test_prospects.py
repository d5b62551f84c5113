"""A deadline on its way: from the option through the plan into what the run remembers."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.compute.prospects import MOST, MOST_STEADY, prospects_of, shortlist
from kwanzaa_compute.runs.candidates import as_of_now, load_prospects
from kwanzaa_compute.testing import FakeCloud
from kwanzaa_compute.testing.plugin import compute_over
from kwanzaa_compute.testing.samples import sample_offer

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart" / "training.yaml"
OPTIONS = kc.Options(
    max_usd=Decimal(50),
    deadline_hours=30.0,
    overrides={"model.base_model_id": "allenai/OLMo-7B-Instruct-hf"},
)


@pytest.fixture
def planned(tmp_path: Path) -> kc.Planned:
    with compute_over(FakeCloud(), tmp_path) as compute:
        return compute.plan(QUICKSTART, OPTIONS)


def test_a_run_remembers_its_deadline_and_how_long_each_place_would_take(tmp_path: Path) -> None:
    cloud = FakeCloud()
    with compute_over(cloud, tmp_path) as compute:
        run = compute.prepare(compute.plan(QUICKSTART, OPTIONS))
        record = run.record
        assert record.deadline_at == record.created_at + 30 * 3600
        found = load_prospects(record.candidates)
        assert {p.offer.spot for p in found} == {True, False}
        assert all(p.set_up_s > 0 and p.work_s >= p.checkpoint_s > 0 for p in found)
        stored = Path(record.store_url.removeprefix("file://")) / "run.json"
        assert json.loads(stored.read_text())["run"]["deadline_at"] == record.deadline_at


def test_a_run_without_a_deadline_has_none(tmp_path: Path) -> None:
    with compute_over(FakeCloud(), tmp_path) as compute:
        plan = compute.plan(QUICKSTART, replace(OPTIONS, deadline_hours=None))
        assert compute.prepare(plan).record.deadline_at is None


def test_a_run_is_told_the_time_that_a_slow_machine_takes(planned: kc.Planned) -> None:
    candidate = planned.plan.candidates[0]
    (told,) = prospects_of(planned.plan, [candidate])
    assert told.work_s > candidate.work_s >= candidate.training_s > 0
    assert told.set_up_s >= candidate.set_up_s


def test_a_deadline_has_on_demand_machines_to_fall_back_on(planned: kc.Planned) -> None:
    spot, steady = (
        next(c for c in planned.plan.candidates if c.offer.spot is kind) for kind in (True, False)
    )
    ranked = [spot] * (MOST + 5) + [steady] * 9
    assert not any(not c.offer.spot for c in shortlist(ranked, deadline=False))
    short = shortlist(ranked, deadline=True)
    assert len(short) == MOST
    assert [c.offer.spot for c in short[-MOST_STEADY:]] == [False] * MOST_STEADY
    assert shortlist(ranked[:4], deadline=True) == ranked[:4]


@pytest.mark.parametrize("price", [None, "0", "-1", "NaN", "Infinity"])
def test_todays_price_replaces_the_plans_and_what_is_no_price_does_not(
    planned: kc.Planned, price: str | None
) -> None:
    told = prospects_of(planned.plan, planned.plan.candidates[:1])
    dearer = replace(told[0].offer, usd_per_hour=Decimal("9.75"))
    (renewed,) = as_of_now(told, {told[0].place: dearer, ("x", "y", "z"): sample_offer()})
    assert renewed == replace(told[0], offer=dearer)
    odd = replace(dearer, usd_per_hour=None if price is None else Decimal(price))
    (kept,) = as_of_now(told, {told[0].place: odd})
    assert kept.offer.usd_per_hour == told[0].offer.usd_per_hour
