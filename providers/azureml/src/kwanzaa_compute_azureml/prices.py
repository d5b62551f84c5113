"""What machines cost, from Azure's retail prices: pure, and suspicious of every field.

The list has many rows for one size, and only one of them is what a run pays:

- *Spot* and *Low Priority* are two meters beside the regular one, told apart by the end of
  `skuName` or `meterName`, sometimes of only one of them. Serverless jobs of tier Spot are taken
  to bill the first, clusters of low priority the second; neither is documented, and the Low
  Priority row may be cheaper or dearer.
- Windows has rows of its own ("... Series Windows", "... Srs Win"), and so have cloud services
  and dedicated hosts.
- A `Reservation` row bears the price of a whole term, for one or three years, with the unit "1
  Hour" all the same; a `DevTestConsumption` row is for other subscriptions. Rows of a savings
  plan are inside the regular row, and not looked at.
- A price to come stands beside that of today, told apart by `effectiveStartDate`; one that has
  ended may still be there. A meter that is billed in another region is not the primary one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute_azureml.shapes import SHAPES

SERVICE = "Virtual Machines"
SPOT = "-spot"
"""Ends the id of an offer that may be taken back: the same size is for sale both ways."""
BILLING_STEP_S = 60
MOST_USD_PER_HOUR = Decimal(10_000)

_NOT_OURS = re.compile(r"\b(windows|win|cloud ?services|dedicated host)\b", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


class Meter(StrEnum):
    """How a machine is billed. The value ends the names in Azure's rows; REGULAR's ends none."""

    REGULAR = "Regular"
    SPOT = "Spot"
    LOW_PRIORITY = "Low Priority"


Priced = tuple[str, Meter]
"""A size, and how it is billed."""


def offers_of(
    rows: Iterable[Any], region: str, as_of: str, *, spot: Meter = Meter.SPOT
) -> Iterator[Offer]:
    """For each size that is for sale in `region`, its regular offer and the one that is `spot`.

    `as_of` (ISO 8601, UTC) is when the rows were asked for. An unknown price is None.
    """
    for (size, meter), usd in sorted(hourly(rows, region, as_of).items()):
        if meter not in {Meter.REGULAR, spot}:
            continue
        regular = meter is Meter.REGULAR
        yield Offer(
            provider="azureml",
            id=size if regular else f"{size}{SPOT}",
            gpu=SHAPES[size].gpu,
            gpu_count=SHAPES[size].count,
            usd_per_hour=usd,
            spot=not regular,
            region=region,
            availability=Availability.UNKNOWN,
            billing_step_s=BILLING_STEP_S,
            source=f"Azure retail prices, {meter.lower()}",
            as_of=as_of,
        )


def size_of(offer_id: str) -> str:
    """The size of an offer's machine."""
    return offer_id.removesuffix(SPOT)


def hourly(rows: Iterable[Any], region: str, as_of: str) -> dict[Priced, Decimal | None]:
    """Dollars an hour at the time `as_of`; None where a price makes no sense, or two disagree.

    Of several rows for one thing the primary meter's count, and of those the newest.
    """
    best: dict[Priced, tuple[tuple[bool, str], set[Decimal | None]]] = {}
    for row in rows:
        priced = _priced(row, region, as_of)
        if priced is None:
            continue
        rank = (row.get("isPrimaryMeterRegion") is not False, _date(row, "effectiveStartDate"))
        held = best.get(priced)
        if held is None or rank > held[0]:
            best[priced] = rank, {_usd(row)}
        elif rank == held[0]:
            held[1].add(_usd(row))
    return {
        priced: next(iter(prices)) if len(prices) == 1 else None
        for priced, (_, prices) in best.items()
    }


def _priced(row: Any, region: str, as_of: str) -> Priced | None:
    """What a row is the price of; None where that is nothing that a run could pay today."""
    if not isinstance(row, Mapping):
        return None
    is_ours = (
        row.get("serviceName") == SERVICE
        and row.get("type") == "Consumption"
        and row.get("armRegionName") == region
        and row.get("unitOfMeasure") == "1 Hour"
        and (row.get("tierMinimumUnits") or 0) == 0
        and _date(row, "effectiveStartDate") <= as_of
        and not "" < _date(row, "effectiveEndDate") <= as_of
    )
    size, meter = row.get("armSkuName"), _meter(row)
    if not is_ours or not isinstance(size, str) or size not in SHAPES or meter is None:
        return None
    return size, meter


def _meter(row: Mapping[str, Any]) -> Meter | None:
    """Which meter; None for what is not Linux on a plain machine, or is two things at once."""
    names = [str(row.get(key, "")) for key in ("productName", "skuName", "meterName")]
    if any(map(_NOT_OURS.search, names)):
        return None
    said = {m for m in (Meter.SPOT, Meter.LOW_PRIORITY) for n in names if n.endswith(f" {m}")}
    if len(said) > 1:
        return None
    return said.pop() if said else Meter.REGULAR


def _usd(row: Mapping[str, Any]) -> Decimal | None:
    price = row.get("retailPrice")
    if row.get("currencyCode") != "USD" or type(price) not in {int, float}:
        return None
    usd = Decimal(str(price))
    return usd if usd.is_finite() and 0 < usd < MOST_USD_PER_HOUR else None


def _date(row: Mapping[str, Any], key: str) -> str:
    """A date that sorts as text; "" where there is none that can be read."""
    value = row.get(key)
    return value if isinstance(value, str) and _DATE.fullmatch(value) else ""
