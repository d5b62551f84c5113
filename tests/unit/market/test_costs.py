import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwanzaa_compute.market.checkpoints import checkpoint_interval_s
from kwanzaa_compute.market.costs import (
    Extras,
    billed_units,
    courses,
    disk_cost_micro,
    expected_with_interruptions,
    interruptions_at,
    price_micro,
    set_up,
    time_cost_micro,
    usd,
    work,
)
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.speed import Speed, speed
from kwanzaa_compute.market.terms import TERMS, UNKNOWN, terms_of

PROVIDERS = (
    "local",
    "sim",
    "runpod",
    "lambda",
    "sagemaker",
    "azureml",
    "hf-jobs",
    "hf-spaces",
    "autotrain",
    "colab",
)


def went(shape, recipe, workload, *, provider="azureml", spot=True, **extras):
    gpu = find_gpu("A100-80GB")
    return courses(
        workload,
        speed(shape, recipe, gpu),
        speed(shape, recipe, gpu, training=False),
        set_up(terms_of(provider), shape, recipe),
        terms=terms_of(provider),
        extras=Extras(**extras),
        spot=spot,
    )


def test_young_and_dalys_interval_for_ten_seconds_and_an_hour_is_270_s():
    assert checkpoint_interval_s(10, 1.0) == pytest.approx(270, rel=0.05)
    assert checkpoint_interval_s(10, 1.0) == pytest.approx(math.sqrt(2 * 10 * 3600), rel=0.05)


def test_without_interruptions_no_checkpoint_pays():
    assert checkpoint_interval_s(10, 0) == math.inf


@given(
    save=st.floats(1, 300),
    rate=st.floats(0.01, 10),
    other=st.floats(0.2, 5),
    useful=st.floats(600, 100_000),
    restart=st.floats(10, 2000),
)
def test_no_other_interval_is_expected_to_cost_less(save, rate, other, useful, restart):
    best = checkpoint_interval_s(save, rate)
    least = expected_with_interruptions(useful, restart, save, best, rate)
    assert least <= expected_with_interruptions(useful, restart, save, best * other, rate) * (
        1 + 1e-9
    )


@given(
    useful=st.floats(1, 1e6),
    restart=st.floats(0, 3000),
    save=st.floats(0, 100),
    interval=st.floats(1, 5000),
    rates=st.tuples(st.floats(0, 5), st.floats(0, 5)),
)
def test_more_interruptions_never_take_less_time(useful, restart, save, interval, rates):
    few, many = sorted(rates)
    a, b = (
        expected_with_interruptions(useful, restart, save, min(interval, useful), rate)
        for rate in (few, many)
    )
    assert a <= b * (1 + 1e-9)
    assert a >= (useful + restart) * (1 - 1e-9)


def test_rare_interruptions_cost_half_an_interval_and_a_restart_each():
    rate, useful, restart, save, interval = 0.01, 3600.0, 600.0, 5.0, 600.0
    extra = expected_with_interruptions(useful, restart, save, interval, rate)
    extra -= useful + restart + useful / interval * save
    expected_losses = (
        rate * (useful / 3600) * (interval / 2 + restart) + rate / 3600 * restart**2 / 2
    )
    assert extra == pytest.approx(expected_losses, rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "step", "minimum", "billed"),
    [
        (0, 1, 0, 1),
        (10.2, 1, 0, 11),
        (61, 60, 0, 120),
        (60, 60, 0, 60),
        (60.0000001, 60, 0, 60),
        (5, 1, 60, 60),
        (61, 3600, 0, 3600),
        (61, 60, 600, 600),
        (61, 0, 0, 61),
    ],
)
def test_time_is_rounded_up_to_the_billing_step_and_minimum(seconds, step, minimum, billed):
    assert billed_units(seconds, step, minimum) == billed


@pytest.mark.parametrize(
    "nobodys_price",
    [
        None,
        Decimal(0),
        Decimal(-1),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("0.0000001"),
    ],
)
def test_no_price_is_never_free(nobodys_price):
    assert price_micro(nobodys_price) is None


def test_prices_and_amounts_are_exact_in_micro_dollars():
    assert price_micro(Decimal("0.746721")) == 746_721
    assert usd(746_721) == Decimal("0.746721")
    assert time_cost_micro(1_390_000, 7200) == 2_780_000
    assert time_cost_micro(1, 1) == 1


def test_disk_is_paid_by_size_and_time_and_may_be_included():
    assert disk_cost_micro(Decimal("0.0001"), 50, 7200) == 10_000
    assert disk_cost_micro(Decimal(0), 50, 7200) == 0
    assert disk_cost_micro(Decimal("NaN"), 50, 7200) == 0


def test_set_up_of_olmo_7b_is_mostly_its_float32_download(olmo, recipe):
    start = set_up(terms_of("runpod"), olmo, recipe)
    assert start.download_s == pytest.approx(27554 / 200, rel=0.01)
    assert set_up(terms_of("runpod"), olmo, recipe, cached=True).download_s == 0
    bf16 = set_up(terms_of("runpod"), replace(olmo, hub_bytes=2), recipe)
    assert bf16.download_s == pytest.approx(start.download_s / 2)


def test_a_course_is_ordered_from_best_to_worst(olmo, recipe, small_job, large_job):
    for job in (small_job, large_job):
        for spot in (True, False):
            c = went(olmo, recipe, job, spot=spot)
            assert c.best.billed_s < c.expected.billed_s <= c.p95.billed_s <= c.worst.billed_s
            assert c.best.wall_s < c.expected.wall_s <= c.p95.wall_s <= c.worst.wall_s


def test_the_parts_of_a_course_are_its_whole(olmo, recipe, large_job):
    c = went(olmo, recipe, large_job, validation_h=0.5, experimentation_h=1.0)
    assert sum(seconds for _, seconds, _ in c.expected.parts) == pytest.approx(c.expected.billed_s)
    named = {what for what, _, _ in c.expected.parts}
    assert named >= {
        "boot",
        "image",
        "model download",
        "training",
        "evaluation",
        "checkpoints",
        "interruptions",
        "validation",
        "experimentation",
        "after the end",
    }


@given(rates=st.tuples(st.floats(0, 3), st.floats(0, 3)))
def test_a_higher_interruption_rate_never_shortens_a_run(rates):
    from kwanzaa_compute.market.recipe import Recipe
    from kwanzaa_compute.market.shapes import find_shape
    from kwanzaa_compute.market.workload import workload

    olmo = find_shape("allenai/OLMo-7B-Instruct-hf")
    job = workload(
        tokens_per_epoch=5_000_000,
        samples=20_000,
        row_tokens=2048,
        rows_per_step=16,
        epochs=1,
        save_every_s=600,
    )
    few, many = sorted(rates)
    a, b = (went(olmo, Recipe(), job, interruptions_per_h=rate) for rate in (few, many))
    assert a.expected.billed_s <= b.expected.billed_s * (1 + 1e-9)
    assert a.worst.billed_s <= b.worst.billed_s * (1 + 1e-9)


def test_on_demand_machines_are_not_interrupted(olmo, recipe, large_job):
    parts = {what for what, _, _ in went(olmo, recipe, large_job, spot=False).expected.parts}
    assert "interruptions" not in parts


def test_a_whole_poisson_quantile_is_found():
    assert interruptions_at(0.95, 0) == 0
    assert interruptions_at(0.95, 0.04) == 0
    assert interruptions_at(0.95, 0.06) == 1
    assert interruptions_at(0.95, 1.0) == 3
    assert interruptions_at(0.999, 1.0) == 5
    assert interruptions_at(0.95, 300) > 300


def test_saving_follows_steps_or_seconds_whichever_comes_first(large_job):
    by_steps = work(replace(large_job, save_every_s=None), 2000, 6000)
    by_time = work(replace(large_job, save_every_s=60), 2000, 6000)
    assert by_steps.interval_s > by_time.interval_s == 60
    assert by_time.saving_s == pytest.approx(by_time.useful_s / 60 * by_time.save_s)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_terms_with_a_source_and_a_date(provider):
    terms = TERMS[provider]
    assert terms.source
    assert terms.as_of
    assert terms.download_mb_s > 0
    assert terms.slow_factor >= 1


def test_what_nobody_publishes_is_called_an_assumption():
    for provider in PROVIDERS:
        if provider != "sim":
            assert "assumed" in TERMS[provider].source


def test_an_unknown_provider_is_taken_to_be_slower_than_all_we_know():
    assert terms_of("somebody-else") is UNKNOWN
    known = [TERMS[p] for p in ("runpod", "lambda", "sagemaker", "azureml", "hf-jobs")]
    assert all(UNKNOWN.download_mb_s <= terms.download_mb_s for terms in known)


def test_a_faster_speed_never_costs_more(olmo, recipe, large_job):
    slow, fast = Speed(1000, 1500, 2000, ""), Speed(2000, 3000, 4000, "")
    start, terms = set_up(terms_of("azureml"), olmo, recipe), terms_of("azureml")
    a, b = (
        courses(large_job, s, s, start, terms=terms, extras=Extras(), spot=True)
        for s in (fast, slow)
    )
    assert a.expected.billed_s < b.expected.billed_s
    assert a.worst.billed_s < b.worst.billed_s
