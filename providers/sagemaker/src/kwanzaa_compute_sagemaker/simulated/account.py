"""What a simulated AWS knows of its one customer: keys, roles, quotas; and what it sells, dated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.testing.weather import Place
from kwanzaa_compute_sagemaker.prices import offer_id
from kwanzaa_compute_sagemaker.shapes import SHAPES

NUMBER = "123456789012"
REGION = "us-east-1"
KEY_ID, SECRET_KEY = "AKIASIMULATED0000000", "opens-nothing-but-this-simulation"
ROLE = f"arn:aws:iam::{NUMBER}:role/kwanzaa-simulated"

USD_PER_HOUR: Mapping[str, str] = {
    "ml.g4dn.xlarge": "0.7364",
    "ml.g5.xlarge": "1.408",
    "ml.g5.2xlarge": "1.515",
    "ml.g5.12xlarge": "7.09",
    "ml.g6.xlarge": "1.1267",
    "ml.g6e.xlarge": "2.6054",
    "ml.p4d.24xlarge": "25.25",
    "ml.p5.4xlarge": "7.912",
}
"""A few types, at prices of the order of AWS's own; but for ml.g5.2xlarge nobody's quote."""


@dataclass(slots=True)
class Account:
    """The customer."""

    keys: dict[str, str] = field(default_factory=lambda: {KEY_ID: SECRET_KEY})
    expired: set[str] = field(default_factory=set)
    """Ids of keys whose session is over."""
    denied: set[str] = field(default_factory=set)
    """Operations that this user may not call."""
    roles: set[str] = field(default_factory=lambda: {ROLE})
    """Roles that SageMaker may assume."""
    quotas: dict[str, int] = field(default_factory=dict)
    """How many instances of a type may train at once; a type that is not named: any number."""
    page_size: int = 100


def places(capacity: Mapping[str, int] | None = None) -> list[Place]:
    """What is for sale as places of a simulated cloud; `capacity` by offer id (rest: any)."""
    return [
        Place(_offer(instance, spot), capacity=(capacity or {}).get(_offer(instance, spot).id))
        for instance in USD_PER_HOUR
        for spot in (False, True)
    ]


def place_of(
    instance: str, count: int, places: dict[tuple[str, str], Place], *, spot: bool
) -> Place:
    """Where a job of so many instances goes; several have a place of their own from then on.

    Those who train one by one, and those who train together, do not take each other's capacity.
    """
    one = places[offer_id(instance, 1, spot=spot), REGION]
    if count == 1:
        return one
    most = None if one.capacity is None else one.capacity // count
    several = Place(_offer(instance, spot, count), capacity=most)
    return places.setdefault(several.key, several)


def price_list() -> list[str]:
    """AWS's price list for SageMaker: what trains, and much else that must not be taken for it."""
    rows = [_row(f"USE1-Train:{name}", name, usd) for name, usd in USD_PER_HOUR.items()]
    rows += [_row(f"USE1-Host:{name}", name, "9.99") for name in USD_PER_HOUR]
    rows += [
        _row("USE1-Train:ml.m5.xlarge", "ml.m5.xlarge", "0.23"),
        _row("USE1-Notebk:ml.g5.xlarge", "ml.g5.xlarge", "0.01"),
        _row("EU-Train:ml.g5.xlarge", "ml.g5.xlarge", "1.76", "eu-west-1"),
        _row("USE1-WarmPool-Train:ml.g5.xlarge", "ml.g5.xlarge", "0.02"),
    ]
    return [json.dumps(row) for row in rows]


def _row(usage: str, instance: str, usd: str, region: str = REGION) -> dict[str, object]:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}, "beginRange": "0", "endRange": "Inf"}
    return {
        "product": {
            "productFamily": "ML Instance",
            "sku": usage,
            "attributes": {"usagetype": usage, "instanceName": instance, "regionCode": region},
        },
        "serviceCode": "AmazonSageMaker",
        "terms": {"OnDemand": {f"{usage}.T": {"priceDimensions": {f"{usage}.T.D": dimension}}}},
    }


def _offer(instance: str, spot: bool, count: int = 1) -> Offer:  # noqa: FBT001 -- of two kinds
    return Offer(
        provider="sagemaker",
        id=offer_id(instance, count, spot=spot),
        gpu=SHAPES[instance].gpu,
        gpu_count=SHAPES[instance].count * count,
        machines=count,
        usd_per_hour=Decimal(USD_PER_HOUR[instance]) * count,
        spot=spot,
        region=REGION,
        availability=Availability.AVAILABLE,
        source="simulated",
        as_of="2026-01-01T00:00:00Z",
    )
