"""Prices that come with the package, so that the first plan works without any network.

Each row says where it comes from and when. Live offers override these; a missing, zero, negative
or nonsensical price is unknown, never free. This is the one module of `market` that reads a file.
"""

import csv
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path

from kwanzaa_compute.market.gpus import GPU, find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer

SNAPSHOT = "prices.csv"

WITHDRAWN = "withdrawn"
"""In the column `status`: was for sale on that day, and no longer is."""
EXAMPLE = "example"
"""In the column `status`: a figure from an example, which quotes nobody's price."""

_BILLING: dict[str, tuple[int, int]] = {
    "runpod": (1, 0),
    "lambda": (60, 0),
    "sagemaker": (1, 0),
    "azureml": (60, 0),
    "hf-jobs": (60, 0),
    "hf-spaces": (60, 0),
    "autotrain": (60, 0),
    "colab": (3600, 0),
}
"""Billing step and minimum in seconds, as documented; Lambda's and Azure's are not verified."""

_ATTENDED = frozenset({"colab"})


@cache
def bundled_offers() -> tuple[Offer, ...]:
    """Every row of the bundled snapshot as an offer, in the file's order."""
    # Not importlib.resources or pkgutil: importing them takes longer than all of this.
    return offers_from_csv(Path(__file__).with_name("data").joinpath(SNAPSHOT).read_text("utf-8"))


def offers_from_csv(text: str) -> tuple[Offer, ...]:
    """Offers from rows of `provider, sku, gpu, gpu_count, market, usd_per_hour, ...`.

    Prices are for the whole machine. Where one machine is listed several times at the same place
    and market, its newest row counts.
    """
    newest: dict[tuple[str, str, str, str], Offer] = {}
    for row in csv.DictReader(text.splitlines()):
        offer = _offer(row)
        place = (offer.provider, offer.id, row["market"], offer.region)
        known = newest.get(place)
        if known is None or known.as_of <= offer.as_of:
            newest[place] = offer
    return tuple(newest.values())


def _offer(row: dict[str, str]) -> Offer:
    provider, status = row["provider"], row.get("status", "")
    step_s, minimum_s = _BILLING.get(provider, (3600, 0))
    note = f"; {row['note']}" if row.get("note") else ""
    return Offer(
        provider=provider,
        id=row["sku"],
        gpu=_gpu(row["gpu"]),
        gpu_count=int(row["gpu_count"] or 1),
        usd_per_hour=None if status == EXAMPLE else parsed_price(row["usd_per_hour"]),
        spot=row["market"] == "spot",
        region=row["region"],
        availability=Availability.SOLD_OUT if status == WITHDRAWN else Availability.UNKNOWN,
        billing_step_s=step_s,
        minimum_s=minimum_s,
        source=f"bundled snapshot: {row['source']}{note}",
        as_of=row["as_of"],
        attended=provider in _ATTENDED,
    )


@cache
def _gpu(name: str) -> GPU:
    return find_gpu(name) or unknown_gpu(name)


def parsed_price(text: str) -> Decimal | None:
    """A price from a catalogue; None where it is missing, zero, negative or no number."""
    try:
        price = Decimal(text.strip())
    except InvalidOperation:
        return None
    return price if price.is_finite() and price > 0 else None
