"""What Lambda's answers mean in our words."""

from decimal import Decimal

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.drivers.http import ReplyError
from kwanzaa_compute.market.offers import Availability
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.replies import (
    Instance,
    InstanceTypes,
    gpu_of,
    offers_of,
    read,
    sighting_of,
)
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("A10 (24 GB PCIe)", "A10"),
        ("A100 (40 GB PCIe)", "A100-40GB"),
        ("A100 (40 GB SXM4)", "A100-40GB"),
        ("A100 (80 GB SXM4)", "A100-80GB SXM"),
        ("A6000 (48 GB)", "RTX A6000"),
        ("B200 (180 GB SXM6)", "B200"),
        ("GH200 (96 GB)", "GH200"),
        ("H100 (80 GB PCIe)", "H100 PCIe"),
        ("H100 (80 GB SXM5)", "H100 SXM"),
        ("H200 (141 GB SXM5)", "H200"),
        ("RTX 6000 (24 GB)", "Quadro RTX 6000"),
        ("Tesla V100 (16 GB)", "V100-16GB"),
    ],
)
def test_memory_is_read_from_the_description_and_decides_between_cards(
    description: str, name: str
) -> None:
    assert gpu_of(description).name == name


@pytest.mark.parametrize(
    ("description", "gib"),
    [
        ("A100 (64 GB SXM4)", 56.3),  # no A100 that we know has so much: nothing is made of it
        ("X1000 (200 GB)", 176.0),
        ("A100", 0.0),
        ("A100 (lots of GB)", 0.0),
        ("A100 (0 GB)", 0.0),
        ("", 0.0),
        ("A100 (40 TB)", 0.0),
    ],
)
def test_a_card_that_we_do_not_know_is_listed_and_nothing_is_planned_on_it(
    description: str, gib: float
) -> None:
    gpu = gpu_of(description)
    assert not gpu.known
    assert gpu.vram_gib == pytest.approx(gib, abs=0.1)


def test_each_region_that_has_a_machine_is_an_offer_with_the_price_of_now(
    simulator: LambdaSimulator, driver: LambdaDriver
) -> None:
    offers = list(driver.offers())
    (ten, other) = [offer for offer in offers if offer.id == "gpu_1x_a10"]
    assert {ten.region, other.region} == {"us-east-1", "us-west-1"}
    assert ten.usd_per_hour == Decimal("1.29")
    assert ten.availability is Availability.AVAILABLE
    assert ten.source == "Lambda Cloud API"
    assert ten.as_of
    (eight,) = [offer for offer in offers if offer.id == "gpu_8x_a100_80gb_sxm4"]
    assert (eight.gpu_count, eight.usd_per_hour) == (8, Decimal("22.32"))  # for the whole machine
    assert [request.path for request, _ in simulator.server.exchanges] == ["/api/v1/instance-types"]


def test_what_is_sold_out_everywhere_is_shown_as_that(driver: LambdaDriver) -> None:
    (gone,) = [offer for offer in driver.offers() if offer.gpu.name == "B200"]
    assert (gone.region, gone.availability) == ("", Availability.SOLD_OUT)


@pytest.mark.parametrize("cents", [0, -5, 10**9])
def test_what_is_no_price_is_unknown_and_never_free(cents: int) -> None:
    item = {
        "instance_type": {
            "name": "t",
            "gpu_description": "A10 (24 GB PCIe)",
            "price_cents_per_hour": cents,
            "specs": {"storage_gib": 1, "gpus": 1},
        },
        "regions_with_capacity_available": [],
    }
    (offer,) = offers_of(read(InstanceTypes, {"data": {"t": item}}), "now")
    assert offer.usd_per_hour is None


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("booting", Phase.STARTING),
        ("active", Phase.RUNNING),
        ("unhealthy", Phase.RUNNING),
        ("terminating", Phase.STOPPING),
        ("preempted", Phase.PREEMPTED),
        ("terminated", Phase.GONE),
        ("hibernating", Phase.RUNNING),  # a word of tomorrow: it may bill
    ],
)
def test_every_status_has_a_phase_and_an_unknown_one_may_bill(status: str, phase: Phase) -> None:
    seen = sighting_of(read(Instance, {"id": "i", "status": status}))
    assert seen.phase is phase
    assert seen.detail == ("" if phase is not Phase.RUNNING or status == "active" else status)


def test_an_error_quotes_nothing_of_the_answer() -> None:
    with pytest.raises(ReplyError) as caught:
        read(Instance, {"id": "i", "status": 7, "jupyter_token": "token"})
    assert str(caught.value) == "an answer without a proper status"
