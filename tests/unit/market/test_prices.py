from decimal import Decimal

import pytest

from kwanzaa_compute.market.offers import Availability
from kwanzaa_compute.market.prices import (
    bundled_offers,
    offers_from_csv,
    parsed_price,
)

OURS = {"runpod", "lambda", "sagemaker", "azureml", "hf-jobs", "hf-spaces", "colab", "autotrain"}
HEAD = "provider,sku,gpu,gpu_count,market,usd_per_hour,region,as_of,source,status,note\n"


def test_the_snapshot_has_every_provider_and_every_row_its_source_and_date():
    offers = bundled_offers()
    assert {offer.provider for offer in offers} == OURS
    assert all(len(offer.as_of) == 10 and offer.source for offer in offers)
    assert all(offer.billing_step_s > 0 for offer in offers)


def test_all_gpus_of_the_snapshot_are_known_but_for_the_one_that_has_no_name():
    unknown = [offer for offer in bundled_offers() if not offer.gpu.known]
    assert [(offer.provider, offer.id) for offer in unknown] == [("autotrain", "job")]


def test_no_row_of_the_snapshot_is_free():
    for offer in bundled_offers():
        assert offer.usd_per_hour is None or offer.usd_per_hour > 0
        assert not offer.own_machine


def test_what_is_no_longer_sold_is_sold_out_and_an_example_is_no_quote():
    by_id = {(o.provider, o.id, o.spot): o for o in bundled_offers()}
    assert by_id["runpod", "A100-40GB", True].availability is Availability.SOLD_OUT
    assert all(
        o.availability is Availability.SOLD_OUT
        for o in bundled_offers()
        if o.provider == "runpod" and o.spot
    )
    assert by_id["runpod", "A40", False].usd_per_hour is None


def test_several_gpus_are_priced_as_the_whole_machine():
    eight = next(o for o in bundled_offers() if o.id == "Standard_ND96amsr_A100_v4" and not o.spot)
    assert eight.gpu_count == 8
    assert eight.usd_per_hour == Decimal("32.77")


def test_the_newest_row_of_a_machine_counts():
    offers = [o for o in bundled_offers() if o.id == "gpu_1x_a6000"]
    assert [o.usd_per_hour for o in offers] == [Decimal("1.09")]
    rows = "runpod,X,T4,1,spot,{},,{},s,,\n"
    two = HEAD + rows.format("2.00", "2026-02-01") + rows.format("1.00", "2026-01-01")
    assert [o.usd_per_hour for o in offers_from_csv(two)] == [Decimal("2.00")]


def test_colab_needs_a_person():
    assert all(offer.attended == (offer.provider == "colab") for offer in bundled_offers())


@pytest.mark.parametrize("text", ["", "0", "0.00", "-1", "NaN", "nan", "inf", "free", "1,5", " "])
def test_what_is_no_price_is_unknown(text):
    assert parsed_price(text) is None


def test_quoted_regions_and_unknown_gpus_are_read():
    row = 'azureml,S,Mystery 9000,2,on-demand,1.5,"east, us",2026-01-01,"a, b",,"c, d"\n'
    (offer,) = offers_from_csv(HEAD + row)
    assert offer.region == "east, us"
    assert offer.gpu.name == "Mystery 9000"
    assert not offer.gpu.known
