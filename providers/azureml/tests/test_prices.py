"""What Azure's retail prices say, page by page, and what must not be taken for a price."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.http import HttpClient, HttpFailure, NoAnswerError, StatusError
from kwanzaa_compute.drivers.replies import sound_offers
from kwanzaa_compute.market.gpus import find_gpu, gpu_matches
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.prices import bundled_offers
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute_azureml.prices import Meter, hourly, offers_of, size_of
from kwanzaa_compute_azureml.retail import MOST_PAGES, PATH, rows
from kwanzaa_compute_azureml.shapes import SHAPES
from kwanzaa_compute_azureml.simulated.retail import (
    REGION,
    USD_PER_HOUR,
    RetailPages,
    price_rows,
    row,
)

NOW = "2026-11-24T12:00:00Z"
A100 = "Standard_NC24ads_A100_v4"
REGULAR = {(A100, Meter.REGULAR): Decimal("3.673")}


def regular(**changes: Any) -> dict[str, Any]:
    return row(A100, Meter.REGULAR, "3.673", **changes)


# -- one row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trap",
    [
        {"product": "Series Windows"},
        {"product": "Srs Win"},
        {"skuName": "NC24ads A100 v4 Windows"},
        {"productName": "NCads A100 v4 Series Cloud Services"},
        {"productName": "NCads A100 v4 Dedicated Host"},
        {"type": "Reservation", "reservationTerm": "1 Year"},
        {"type": "DevTestConsumption"},
        {"unitOfMeasure": "100 Hours"},
        {"unitOfMeasure": "1 GB/Month"},
        {"serviceName": "Azure Machine Learning"},
        {"region": "westeurope"},
        {"armRegionName": "EastUS"},
        {"armSkuName": "Standard_D4s_v5"},
        {"armSkuName": ["Standard_NC24ads_A100_v4"]},
        {"tierMinimumUnits": 100.0},
        {"effectiveStartDate": "2026-12-01T00:00:00Z"},
        {"effectiveEndDate": "2026-01-01T00:00:00Z"},
        {"skuName": "NC24ads A100 v4 Spot", "meterName": "NC24ads A100 v4 Low Priority"},
    ],
)
def test_a_row_for_something_else_is_no_price(trap: dict[str, Any]) -> None:
    """Beside the true row and without it, whatever it would cost."""
    cheap = {**regular(raised="0.01", **trap)}
    assert hourly([cheap], REGION, NOW) == {}
    assert hourly([cheap, regular()], REGION, NOW) == REGULAR


@pytest.mark.parametrize("price", [0, 0.0, -1.0, 1e9, "3.673", True, None, [], float("nan")])
def test_a_price_that_makes_no_sense_is_unknown(price: Any) -> None:
    assert hourly([regular(retailPrice=price)], REGION, NOW) == {(A100, Meter.REGULAR): None}


def test_a_price_in_another_currency_is_unknown() -> None:
    assert hourly([regular(currencyCode="EUR")], REGION, NOW) == {(A100, Meter.REGULAR): None}


@pytest.mark.parametrize("meter", [Meter.SPOT, Meter.LOW_PRIORITY])
@pytest.mark.parametrize("name", ["skuName", "meterName"])
def test_one_of_two_names_tells_the_meter(meter: Meter, name: str) -> None:
    named = regular(**{name: f"NC24ads A100 v4 {meter}"})
    assert hourly([named], REGION, NOW) == {(A100, meter): Decimal("3.673")}


def test_of_several_rows_the_primary_ones_count_and_of_those_the_newest() -> None:
    old = regular(raised="2", effectiveStartDate="2024-01-01T00:00:00Z")
    undated = regular(raised="3", effectiveStartDate=None)
    elsewhere = regular(
        raised="0.1", isPrimaryMeterRegion=False, effectiveStartDate="2026-01-01T00:00:00Z"
    )
    for several in ([old, regular(), undated, elsewhere], [elsewhere, regular(), old, undated]):
        assert hourly(several, REGION, NOW) == REGULAR
    assert hourly([regular(), regular()], REGION, NOW) == REGULAR


def test_two_prices_that_contradict_each_other_make_none() -> None:
    both = [regular(), regular(raised="1.1")]
    assert hourly(both, REGION, NOW) == {(A100, Meter.REGULAR): None}
    (offer,) = offers_of(both, REGION, NOW)
    assert offer.usd_per_hour is None


# -- the whole list --------------------------------------------------------------------------------


@pytest.mark.parametrize("spot", [Meter.SPOT, Meter.LOW_PRIORITY])
def test_each_size_is_for_sale_twice_at_its_own_prices(spot: Meter) -> None:
    offers = list(offers_of(price_rows(), REGION, NOW, spot=spot))
    assert sound_offers(offers, "azureml") == tuple(offers)
    column = list(Meter).index(spot)
    for one in offers:
        prices = USD_PER_HOUR[size_of(one.id)]
        assert one.usd_per_hour == Decimal(prices[column if one.spot else 0])
        assert one.as_of == NOW
        assert one.region == REGION
        assert one.source == f"Azure retail prices, {(spot if one.spot else Meter.REGULAR).lower()}"
    assert len({one.id for one in offers}) == len(offers) == 2 * len(USD_PER_HOUR)


def test_nothing_is_for_sale_where_azure_quotes_nothing() -> None:
    assert list(offers_of(price_rows(), "nowhere", NOW)) == []


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["1 Hour", "Consumption", "USD", NOW, A100]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
damaged = st.builds(
    lambda changes: {**regular(), **changes},
    st.dictionaries(st.sampled_from(sorted(regular())), values, max_size=4),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(values | damaged, max_size=5))
def test_whatever_rows_come_offers_are_sound_and_never_free(some: list[Any]) -> None:
    offers = list(offers_of(some, REGION, NOW))
    assert sound_offers(offers, "azureml") == tuple(offers)
    assert all(one.usd_per_hour is None or one.usd_per_hour > 0 for one in offers)
    assert {size_of(one.id) for one in offers} <= SHAPES.keys()


# -- over HTTP -------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[WireServer]:
    pages = RetailPages(lambda: server.url)
    with WireServer(pages.handle) as server:
        yield server


def asked(server: WireServer, **more: Any) -> list[Any]:
    return list(rows(HttpClient(server.url), REGION, Clock(), **more))


def test_all_pages_are_read_with_one_filter_and_no_key(server: WireServer) -> None:
    found = asked(server)
    assert len(server.exchanges) > 2
    wanted = [one for one in price_rows() if one["armRegionName"] == REGION]
    wanted = [one for one in wanted if one["type"] == "Consumption"]
    assert found == [one for one in wanted if one["armSkuName"].startswith("Standard_N")]
    assert len(list(offers_of(found, REGION, NOW))) == 2 * len(USD_PER_HOUR)
    for request, _ in server.exchanges:
        assert request.path == PATH
        assert "authorization" not in request.headers
        assert "api-version" in request.query
        assert "$filter" in request.query


def test_a_next_page_elsewhere_is_looked_for_here(server: WireServer) -> None:
    """Its address names a port of its own at Azure; whoever changes it sends us nowhere."""
    elsewhere = "https://prices.azure.com:443/api/retail/prices?$filter=x%20eq%20%27y%27&$skip=1000"
    page = {"Items": [regular()], "NextPageLink": elsewhere}
    server.interrupt("GET", PATH, Reply(200, page))
    server.interrupt("GET", PATH, Reply(200, {"Items": [], "NextPageLink": None}))
    assert asked(server) == [regular()]
    second: Request = server.exchanges[1][0]
    assert second.query["$skip"] == ["1000"]
    assert second.query["$filter"] == ["x eq 'y'"]


@pytest.mark.parametrize(
    "bad",
    [
        b"<html>Bad Gateway</html>",
        b'{"Items": NaN}',
        [],
        {"Items": None},
        {"items": []},
        {"Items": [], "NextPageLink": 7},
        {"Items": [], "NextPageLink": "https://prices.azure.com/api/retail/prices"},
    ],
)
def test_a_page_that_is_none_is_a_clear_error(server: WireServer, bad: Any) -> None:
    server.interrupt("GET", PATH, Reply(200, bad))
    with pytest.raises(HttpFailure):
        asked(server)


def test_pages_without_end_are_given_up() -> None:
    def endless(request: Request) -> Reply:
        skip = int(request.query.get("$skip", ["0"])[0]) + 1
        return Reply(200, {"Items": [], "NextPageLink": f"https://x{PATH}?$skip={skip}"})

    with WireServer(endless) as server:
        with pytest.raises(HttpFailure, match=f"more than {MOST_PAGES} pages"):
            asked(server)
        assert len(server.exchanges) == MOST_PAGES
    itself = {"Items": [], "NextPageLink": f"https://x{PATH}?$skip=1"}
    with WireServer(lambda _: Reply(200, itself)) as server, pytest.raises(HttpFailure) as caught:
        asked(server)
    assert "names itself" in str(caught.value)


def test_too_many_questions_are_azures_answer_with_its_wait(server: WireServer) -> None:
    server.interrupt("GET", PATH, Reply(429, b"", {"Retry-After": "7"}))
    with pytest.raises(StatusError) as caught:
        asked(server)
    assert caught.value.status == 429
    assert caught.value.retry_after_s(0.0) == 7.0


def test_all_pages_together_have_one_deadline(server: WireServer) -> None:
    times = iter((0.0, 1.0, 41.0))
    clock = Clock(monotonic=lambda: next(times))
    with pytest.raises(NoAnswerError, match="within 40 s"):
        list(rows(HttpClient(server.url), REGION, clock))
    assert len(server.exchanges) == 1


# -- the table of sizes ----------------------------------------------------------------------------


def test_every_size_has_a_gpu_that_can_be_planned_with() -> None:
    for shape in SHAPES.values():
        assert shape.gpu.known, shape.size
        assert shape.gpu.vram_gib > 0
        assert shape.count >= 1
    assert not SHAPES["Standard_NC4as_T4_v3"].gpu.bf16
    assert not SHAPES["Standard_ND40rs_v2"].gpu.bf16


def test_the_bundled_prices_are_for_the_same_machines() -> None:
    bundled: list[Offer] = [one for one in bundled_offers() if one.provider == "azureml"]
    assert bundled
    for one in bundled:
        assert (SHAPES[one.id].gpu, SHAPES[one.id].count) == (one.gpu, one.gpu_count), one.id


def test_a_part_of_a_card_is_a_part_and_nobody_who_asks_for_the_card_gets_it() -> None:
    whole = find_gpu("A10")
    assert whole is not None
    for size, share in (("NV6ads", Fraction(1, 6)), ("NV12ads", Fraction(1, 3))):
        part = SHAPES[f"Standard_{size}_A10_v5"].gpu
        assert part.vram_gib == pytest.approx(whole.vram_gib * share, abs=0.01)
        assert part.tflops_bf16 == pytest.approx(whole.tflops_bf16 * share)
        assert part.bf16
        assert not gpu_matches(part, "A10")
        assert find_gpu(part.name) is None
