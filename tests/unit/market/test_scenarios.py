"""The founding document's own figures, and where it contradicts itself."""

from decimal import Decimal

import pytest

from kwanzaa_compute.market.scenarios import (
    Subscription,
    break_even_usd,
    cents,
    return_on_investment,
    run_breakdown,
    runs_per_budget,
)

SPOT_A100 = run_breakdown(Decimal("1.39"), Decimal(2), buffer=Decimal("0.10"))
A10G = run_breakdown(
    Decimal("1.05"), Decimal(2), validation_h=Decimal("0.5"), experimentation_h=Decimal(1)
)
COLAB = Subscription(Decimal("49.99"), Decimal(100))


def test_two_hours_at_1_39_and_ten_percent_are_3_06_and_163_runs_for_500():
    assert SPOT_A100.training == Decimal("2.78")
    assert SPOT_A100.usd == Decimal("3.06")
    assert runs_per_budget(Decimal(500), SPOT_A100.usd) == 163
    assert runs_per_budget(Decimal(5000), SPOT_A100.usd) == 1633


def test_an_a10g_for_three_and_a_half_hours_is_3_68_and_135_runs_for_500():
    assert A10G.usd == Decimal("3.68")
    assert runs_per_budget(Decimal(500), A10G.usd) == 135


def test_an_rtx_4090_at_44_cents_is_97_cents_and_515_runs():
    run = run_breakdown(Decimal("0.44"), Decimal(2), buffer=Decimal("0.10"))
    assert run.usd == Decimal("0.97")
    assert runs_per_budget(Decimal(500), run.usd) == 515
    assert runs_per_budget(Decimal(5000), run.usd) == 5154


def test_a_run_that_succeeds_four_times_in_five_breaks_even_at_4_60():
    assert break_even_usd(A10G.usd, Decimal("0.80")) == Decimal("4.60")


def test_500_dollars_make_108_adapters_a_net_of_107_500_and_21_639_percent():
    back = return_on_investment(Decimal(500), A10G.usd, Decimal("0.80"), Decimal(1000))
    assert (back.runs, back.adapters) == (135, 108)
    assert back.value_usd == Decimal(108_000)
    assert back.net_usd == Decimal(107_500)
    assert back.percent_per_adapter == Decimal(21639)


def test_other_tables_of_the_document_follow_from_their_premises():
    assert runs_per_budget(Decimal(500), Decimal("2.20")) == 227
    assert run_breakdown(Decimal("1.10"), Decimal(2)).usd == Decimal("2.20")
    assert runs_per_budget(Decimal(500), Decimal("3.50")) == 142
    assert runs_per_budget(Decimal(500), Decimal(8)) == 62
    assert run_breakdown(Decimal("1.05"), Decimal(2), validation_h=Decimal(1)).usd == Decimal(
        "3.15"
    )
    assert runs_per_budget(Decimal(500), Decimal("3.15")) == 158


def test_a_subscription_costs_the_same_whatever_is_used():
    assert cents(COLAB.usd_per_hour) == Decimal("0.50")
    assert COLAB.runs_per_month(Decimal("2.5")) == 40
    assert COLAB.usd_per_run(Decimal("2.5"), 40) == Decimal("1.25")
    assert COLAB.usd_per_run(Decimal("2.5"), 1) == Decimal("49.99")
    assert COLAB.cheaper_from(Decimal("3.68")) == 14


def test_more_runs_than_the_month_has_hours_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        COLAB.usd_per_run(Decimal("2.5"), 41)


class TestContradictionsOfTheFoundingDocument:
    """Each premise computed, beside the different figure that the document gives elsewhere."""

    def test_the_spot_buffer_is_28_cents_in_one_table_and_31_in_another(self):
        assert cents(SPOT_A100.buffer) == Decimal("0.28") != Decimal("0.31")
        assert Decimal("2.78") + Decimal("0.31") == Decimal("3.09") != SPOT_A100.usd

    def test_the_optimized_scenarios_180_runs_leave_its_own_buffer_out(self):
        assert runs_per_budget(Decimal(500), run_breakdown(Decimal("1.39"), Decimal(2)).usd) == 179
        assert 180 * 2 * Decimal("1.39") == Decimal("500.40") > Decimal(500)
        assert runs_per_budget(Decimal(500), SPOT_A100.usd) == 163

    def test_326_runs_need_half_the_price_that_the_document_computes(self):
        assert runs_per_budget(Decimal(500), Decimal("1.53")) == 326
        assert SPOT_A100.usd == 2 * Decimal("1.53") == Decimal("3.06")

    def test_the_hugging_face_scenario_has_158_runs_and_135_runs_and_135_runs_for_283_50(self):
        assert runs_per_budget(Decimal(500), Decimal("3.15")) == 158
        assert runs_per_budget(Decimal(500), A10G.usd) == 135
        assert 135 * 2 * Decimal("1.05") == Decimal("283.50") != 135 * A10G.usd == Decimal("496.80")

    def test_rounding_a_run_to_cents_first_costs_one_run_in_136(self):
        assert runs_per_budget(Decimal(500), A10G.exact) == 136

    def test_one_run_on_spot_costs_3_06_and_5_36_for_the_same_two_hours_of_training(self):
        whole = run_breakdown(
            Decimal("1.39"),
            Decimal(2),
            validation_h=Decimal("0.5"),
            experimentation_h=Decimal(1),
            buffer=Decimal("0.10"),
        )
        assert whole.exact == Decimal("5.3515")
        assert whole.usd == Decimal("5.35") != Decimal("5.36")
        assert whole.usd != SPOT_A100.usd

    def test_the_80_gb_a100_costs_1_39_in_that_breakdown_and_1_89_in_the_price_list(self):
        assert (
            run_breakdown(Decimal("1.89"), Decimal(2), buffer=Decimal("0.10")).usd
            == Decimal("4.16")
            != SPOT_A100.usd
        )

    def test_sagemakers_parts_add_up_to_3_42_and_not_to_3_50(self):
        run = run_breakdown(
            Decimal("1.41"), Decimal(2), storage_usd=Decimal("0.50"), network_usd=Decimal("0.10")
        )
        assert run.usd == Decimal("3.42") != Decimal("3.50")
        assert runs_per_budget(Decimal(500), run.usd) == 146
        assert 140 * 2 * Decimal("1.41") == Decimal("394.80")

    def test_azures_parts_add_up_to_7_84_and_not_to_8(self):
        run = run_breakdown(Decimal("3.67"), Decimal(2), storage_usd=Decimal("0.50"))
        assert run.usd == Decimal("7.84")
        assert runs_per_budget(Decimal(500), run.usd) == 63

    def test_colab_is_unlimited_25_runs_40_runs_7_cents_an_hour_and_50_cents_an_hour(self):
        assert cents(Subscription(Decimal("49.99"), Decimal(30 * 24)).usd_per_hour) == Decimal(
            "0.07"
        )
        assert cents(COLAB.usd_per_hour) == Decimal("0.50")
        assert COLAB.usd_per_run(Decimal("2.5"), 25) == Decimal("2.00") != Decimal("1.25")
        assert COLAB.runs_per_month(Decimal("2.5")) == 40


@pytest.mark.parametrize(
    ("budget", "price", "rate"),
    [
        (Decimal(500), Decimal(0), Decimal(1)),
        (Decimal(500), Decimal(-1), Decimal(1)),
        (Decimal(-1), Decimal(1), Decimal(1)),
        (Decimal(1), Decimal(1), Decimal("1.1")),
    ],
)
def test_budgets_of_nonsense_are_refused(budget, price, rate):
    with pytest.raises(ValueError, match="price above zero"):
        runs_per_budget(budget, price, success_rate=rate)


def test_a_run_that_never_succeeds_has_no_break_even():
    with pytest.raises(ValueError, match="success rate"):
        break_even_usd(Decimal("3.68"), Decimal(0))
