"""A catalogue with everything that real ones have been seen to contain."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from kwanzaa_compute.market import weighing
from kwanzaa_compute.market.gpus import all_gpus, find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.market.plan import Reason, Settings, Task, make_plan
from kwanzaa_compute.market.quotes import pace_of, quote

ODD_PRICES = [
    None,
    Decimal(0),
    Decimal("0.000"),
    Decimal("-0.5"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("1E-9"),
    Decimal("1E+12"),
    0.5,
    "0.5",
]
"""The last two are of types that no driver should give; they are unknown, not a crash."""


@pytest.fixture
def catalogue():
    """Ten thousand rows, a third of them odd, the same on every run."""
    chance = random.Random(20261123)
    megabytes = replace(find_gpu("A100"), vram_gib=40_960.0)
    gpus = [*all_gpus(), unknown_gpu("Radeon VII"), unknown_gpu(""), megabytes]
    regions = ["", "eastus", "Council Bluffs, Iowa, US", "eu-west-1,eu-west-2", "北京"]
    rows = []
    for number in range(10_000):
        price = Decimal(chance.randint(20, 4000)) / 100
        if chance.random() < 0.2:
            price = chance.choice(ODD_PRICES)
        row = Offer(
            provider=chance.choice(["runpod", "azureml", "vast", "", "hf-jobs"]),
            id=f"m{number % 700}",
            gpu=chance.choice(gpus),
            gpu_count=chance.choice([0, 1, 1, 2, 8]),
            usd_per_hour=price,
            spot=chance.random() < 0.5,
            region=chance.choice(regions),
            availability=chance.choice(list(Availability)),
            billing_step_s=chance.choice([0, 1, 60, 3600]),
            as_of=chance.choice(["2026-11-01", "", "n/a", "2026-13-45", "2019-01-01"]),
        )
        rows.extend([row] * (2 if chance.random() < 0.1 else 1))
    return rows


@pytest.fixture
def plan(catalogue, requirements, large_job, olmo, recipe, snapshot_day):
    settings = Settings(now=snapshot_day)
    return make_plan(requirements, catalogue, Task(large_job, olmo, recipe), settings)


def test_no_row_is_lost_and_none_crashes_the_plan(plan, catalogue):
    assert len(plan.candidates) + len(plan.refused) == len(catalogue)
    assert plan.candidates


def test_no_unknown_price_is_ever_picked(plan):
    for candidate in plan.candidates:
        price = candidate.offer.usd_per_hour
        assert isinstance(price, Decimal)
        assert price.is_finite()
        assert price > Decimal("0.000001")
        assert candidate.usd.expected > 0


def test_the_odd_rows_are_refused_for_what_they_are(plan):
    codes = {refusal.code for refusal in plan.refused}
    assert codes >= {
        Reason.PRICE_UNKNOWN,
        Reason.PRICE_OLD,
        Reason.SPOT_DEARER,
        Reason.UNKNOWN_GPU,
        Reason.SOLD_OUT,
        Reason.GPU_COUNT,
        Reason.VRAM,
    }
    assert all(refusal.reason for refusal in plan.refused)


def test_memory_in_megabytes_makes_a_gpu_no_cheaper_and_no_faster(plan):
    wrong = [c for c in plan.candidates if c.offer.gpu.vram_gib > 1000]
    right = [c for c in plan.candidates if c.offer.gpu == find_gpu("A100")]
    assert wrong
    assert right
    assert {c.speed for c in wrong} == {c.speed for c in right}


@pytest.mark.parametrize("odd_first", [True, False])
def test_a_price_of_the_wrong_type_neither_counts_nor_spoils_its_equal(
    odd_first, requirements, large_job, olmo, recipe
):
    right = Offer("runpod", "a", find_gpu("A100"), usd_per_hour=Decimal("0.5"))
    wrong = replace(right, usd_per_hour=0.5)
    rows = [wrong, right] if odd_first else [right, wrong]
    made = make_plan(requirements, rows, Task(large_job, olmo, recipe))
    assert [c.offer for c in made.candidates] == [right]
    assert [r.code for r in made.refused] == [Reason.PRICE_UNKNOWN]


def test_duplicate_rows_are_both_ranked_side_by_side(requirements, large_job, olmo, recipe):
    row = Offer("runpod", "a", find_gpu("A100"), usd_per_hour=Decimal(2))
    made = make_plan(requirements, [row, row], Task(large_job, olmo, recipe))
    assert len(made.candidates) == 2
    assert made.candidates[0].usd == made.candidates[1].usd


def test_what_depends_on_the_kind_of_machine_alone_is_worked_out_once_a_kind(
    catalogue, requirements, large_job, olmo, recipe, snapshot_day, monkeypatch
):
    """However many offers there are of it: that is why a plan of whole catalogues is quick."""
    quoted, paced = [], []
    monkeypatch.setattr(weighing, "quote", lambda o, *rest: quoted.append(o) or quote(o, *rest))

    def noted(gpu, asked, cards):
        paced.append((gpu, cards))
        return pace_of(gpu, asked, cards)

    monkeypatch.setattr(weighing, "pace_of", noted)
    for offers in (catalogue, catalogue * 3):
        quoted.clear()
        paced.clear()
        task, settings = Task(large_job, olmo, recipe), Settings(now=snapshot_day)
        assert make_plan(requirements, offers, task, settings).best
        kinds = {(offer.gpu, max(1, offer.gpu_count)) for offer in catalogue}
        assert len(paced) == len(set(paced)) == len(kinds)
        assert len(quoted) == len({weighing._kind_of(offer) for offer in catalogue})


def test_three_hundred_thousand_rows_lose_none_and_pick_no_unknown_price(
    catalogue, requirements, large_job, olmo, recipe, snapshot_day
):
    rows = (catalogue * 30)[:300_000]
    settings = Settings(now=snapshot_day)
    made = make_plan(requirements, rows, Task(large_job, olmo, recipe), settings)
    assert len(made.candidates) + len(made.refused) == len(rows) == 300_000
    assert made.best.offer.usd_per_hour > 0
