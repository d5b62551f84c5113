"""Money: exact to the last digit, and rounded against us."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.runs.spending import affordable_hours, billed_usd, spent_usd
from kwanzaa_compute.testing.samples import sample_attempt


def test_time_is_billed_in_whole_steps() -> None:
    attempt = sample_attempt(usd_per_hour=Decimal("3.60"), billing_step_s=60)
    assert billed_usd(attempt, 0.0) == 0
    assert billed_usd(attempt, 0.1) == Decimal("0.06")
    assert billed_usd(attempt, 60.0) == Decimal("0.06")
    assert billed_usd(attempt, 60.1) == Decimal("0.12")


def test_the_minimum_is_billed_as_soon_as_a_machine_may_exist() -> None:
    attempt = sample_attempt(usd_per_hour=Decimal("3.60"), minimum_s=600)
    assert billed_usd(attempt, 1.0) == Decimal("0.60")


def test_a_launch_that_provably_created_nothing_costs_nothing() -> None:
    attempt = sample_attempt(minimum_s=600, intended_at=50.0, closed_at=50.0)
    assert billed_usd(attempt, 1e6) == 0


def test_a_closed_attempt_costs_no_more_as_time_passes() -> None:
    attempt = sample_attempt(usd_per_hour=Decimal("3.60"), closed_at=100.0)
    assert billed_usd(attempt, 1e6) == Decimal("0.10")


def test_our_own_machine_is_free() -> None:
    assert billed_usd(sample_attempt(usd_per_hour=Decimal(0)), 1e6) == 0


def test_no_cent_is_lost_in_a_sum() -> None:
    attempts = [sample_attempt(usd_per_hour=Decimal("0.10"), closed_at=3600.0)] * 3
    assert spent_usd(attempts, 1e6) == Decimal("0.30")


def test_what_can_be_afforded_keeps_the_reserve_and_rounds_down() -> None:
    hours = affordable_hours(
        Decimal("1.00"),
        Decimal("1.00"),
        billing_step_s=600,
        minimum_s=0,
        stop_reserve_s=60,
        max_hours=24,
    )
    assert hours == pytest.approx(3000 / 3600)


def test_without_a_cap_the_time_limit_alone_counts() -> None:
    bounds = {"billing_step_s": 1, "minimum_s": 0, "stop_reserve_s": 60.0, "max_hours": 7.0}
    assert affordable_hours(None, Decimal(9), **bounds) == 7.0  # type: ignore[arg-type]
    assert affordable_hours(Decimal(1), Decimal(0), **bounds) == 7.0  # type: ignore[arg-type]


def test_a_minimum_that_the_cap_does_not_cover_cannot_be_afforded() -> None:
    hours = affordable_hours(
        Decimal("0.50"),
        Decimal("1.00"),
        billing_step_s=1,
        minimum_s=3600,
        stop_reserve_s=0,
        max_hours=24,
    )
    assert hours <= 0


@pytest.mark.parametrize("left", ["0", "-3", "0.001"])
def test_nothing_left_affords_nothing(left: str) -> None:
    hours = affordable_hours(
        Decimal(left),
        Decimal("1.00"),
        billing_step_s=1,
        minimum_s=0,
        stop_reserve_s=60,
        max_hours=24,
    )
    assert hours <= 0


money = st.decimals("0.01", "500", places=4)


@settings(max_examples=300, deadline=None)
@given(
    money,
    st.decimals("0.01", "50", places=4),
    st.sampled_from([1, 60, 600, 3600]),
    st.sampled_from([0, 60, 3600]),
    st.integers(0, 900),
    st.floats(0.1, 100),
)
def test_a_machine_that_ends_within_the_reserve_never_costs_more_than_was_left(
    left: Decimal, rate: Decimal, step_s: int, minimum_s: int, reserve_s: int, limit_h: float
) -> None:
    hours = affordable_hours(
        left,
        rate,
        billing_step_s=step_s,
        minimum_s=minimum_s,
        stop_reserve_s=reserve_s,
        max_hours=limit_h,
    )
    assert hours <= limit_h
    if hours > 0:
        attempt = sample_attempt(usd_per_hour=rate, billing_step_s=step_s, minimum_s=minimum_s)
        over = billed_usd(attempt, hours * 3600 + reserve_s) - left
        step_usd = rate * step_s / 3600
        assert over <= step_usd + Decimal("1e-12")  # at most one billing step
