"""Flavours as offers: what they cost an hour, and what each of their GPUs holds."""

from decimal import Decimal

import pytest
from huggingface_hub import JobHardwareInfo

from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_huggingface.hardware import offers_of, usd_per_hour
from kwanzaa_compute_huggingface.images import FOR_BLACKWELL, FOR_MOST, image_for
from kwanzaa_compute_huggingface.simulator.flavours import JOBS


def offers() -> dict[str, Offer]:
    flavours = [JobHardwareInfo(**flavour) for flavour in JOBS]
    found = offers_of("hf-jobs", flavours, source="test", as_of="2026-11-24T00:00:00Z")
    return {offer.id: offer for offer in found}


def test_every_flavour_with_a_gpu_is_an_offer_of_a_gpu_that_we_know() -> None:
    found = offers()
    assert "cpu-basic" not in found
    assert len(found) == len(JOBS) - 1
    assert [offer.id for offer in found.values() if not offer.gpu.known] == []


def test_memory_is_that_of_one_card() -> None:
    """The Hub says 96 GB of four L4."""
    four = offers()["l4x4"]
    assert (four.gpu.name, four.gpu_count) == ("L4", 4)
    assert four.gpu.vram_gib < 24


def test_an_a100_is_the_one_of_the_memory_that_is_said() -> None:
    assert offers()["a100-large"].gpu.name.startswith("A100-80GB")


def test_prices_are_for_an_hour_of_the_whole_machine() -> None:
    assert offers()["a10g-small"].usd_per_hour == Decimal("1.00002")
    assert offers()["a10g-small"].billing_step_s == 60


@pytest.mark.parametrize(
    ("cost", "unit", "hourly"),
    [
        (10_000, "minute", Decimal("0.6")),
        (1_000_000, "hour", Decimal(1)),
        (100, "second", Decimal("0.36")),
        (0, "minute", None),
        (-1, "minute", None),
        (float("nan"), "minute", None),
        ("10000", "minute", None),
        (None, "minute", None),
        (True, "minute", None),
        (10_000, "fortnight", None),
    ],
)
def test_what_is_no_price_is_unknown_and_never_free(
    cost: object, unit: str, hourly: Decimal | None
) -> None:
    assert usd_per_hour(cost, unit) == hourly


def test_a_gpu_that_nobody_knows_is_listed_with_what_is_said_of_it() -> None:
    accelerator = {
        "type": "gpu",
        "model": "Q9000",
        "quantity": "2",
        "vram": "128 GB",
        "manufacturer": "Nvidia",
    }
    odd = JobHardwareInfo(**{**JOBS[1], "name": "q9", "accelerator": accelerator})
    (offer,) = offers_of("hf-jobs", [odd], source="test", as_of="now")
    assert (offer.gpu.name, offer.gpu.vram_gib, offer.gpu_count) == ("Q9000", 64.0, 2)
    assert not offer.gpu.known


def test_each_gpu_gets_an_image_that_has_code_for_it() -> None:
    for name, image in (("T4", FOR_MOST), ("H200", FOR_MOST), ("RTX PRO 6000", FOR_BLACKWELL)):
        gpu = find_gpu(name)
        assert gpu is not None
        assert image_for(gpu) == image
