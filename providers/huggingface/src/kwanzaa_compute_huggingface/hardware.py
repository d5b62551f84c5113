"""The Hub's flavours of hardware as offers. Pure: the SDK's objects come in, offers go out."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Protocol

from kwanzaa_compute.market.gpus import GPU, find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer

BILLING_STEP_S = 60
_UNITS_AN_HOUR = {"second": 3600, "minute": 60, "hour": 1}
_MICRO = Decimal(1_000_000)


class Accelerator(Protocol):
    """What the SDK says of a flavour's accelerators. Every figure is text."""

    type: str
    model: str
    quantity: str
    vram: str
    """Of all of them together: "96 GB" for four L4."""
    manufacturer: str


class Flavour(Protocol):
    """What the SDK says of one flavour."""

    name: str
    ephemeral_storage: str
    unit_cost_micro_usd: int
    unit_label: str

    @property
    def accelerator(self) -> Accelerator | None:
        """None: a machine without a GPU."""


def offers_of(
    provider: str, flavours: Iterable[Flavour], *, source: str, as_of: str
) -> Iterator[Offer]:
    """Every flavour with a GPU, at its price of now. A price in words that we lack is unknown."""
    for flavour in flavours:
        if flavour.accelerator is None:
            continue
        gpu, count = _gpus(flavour.accelerator)
        yield Offer(
            provider=provider,
            id=flavour.name,
            gpu=gpu,
            gpu_count=count,
            usd_per_hour=usd_per_hour(flavour.unit_cost_micro_usd, flavour.unit_label),
            availability=Availability.UNKNOWN,
            billing_step_s=BILLING_STEP_S,
            disk_gib=_gib(flavour.ephemeral_storage),
            source=source,
            as_of=as_of,
        )


def usd_per_hour(micro_usd: object, unit: str) -> Decimal | None:
    """Dollars an hour from micro-dollars a unit; None where it is not a price. Never zero."""
    units = _UNITS_AN_HOUR.get(unit)
    if units is None or isinstance(micro_usd, bool) or not isinstance(micro_usd, int | float):
        return None
    price = Decimal(str(micro_usd)) * units / _MICRO
    return price if price.is_finite() and price > 0 else None


def _gpus(accelerator: Accelerator) -> tuple[GPU, int]:
    count = int(_number(accelerator.quantity) or 1)
    total_gb = _number(accelerator.vram)
    each_gb = None if total_gb is None else total_gb / count
    known = find_gpu(accelerator.model, box_gb=each_gb) if accelerator.type == "gpu" else None
    return known or unknown_gpu(accelerator.model, vram_gib=each_gb or 0.0), count


def _gib(text: str) -> float | None:
    """GiB of "110 GB" or "1 TB"; None for "N/A"."""
    number = _number(text)
    if number is None:
        return None
    return number * (1000 if "TB" in text.upper() else 1) * 1e9 / 2**30


def _number(text: object) -> float | None:
    found = re.search(r"\d+(?:\.\d+)?", str(text))
    return float(found.group()) if found else None
