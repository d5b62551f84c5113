"""What training costs, from AWS's price list: pure, and suspicious of every field.

The price list knows on-demand training only. Managed spot has no quoted price: AWS bills a spot
job's `BillableTimeInSeconds`, which is at most its training time, at the on-demand rate. So a
spot offer bears the on-demand rate, as the most that it can cost, and says so. A job of several
instances costs each one's price: AWS's seconds are those of the job, and are billed for each.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute_sagemaker.shapes import SHAPES

SERVICE = "AmazonSageMaker"
SOURCE = "AWS price list, on-demand training"
SPOT_SOURCE = "AWS price list, on-demand training: the most that managed spot can cost"
SPOT = "-spot"
"""Ends the id of a spot offer: the same instance type is for sale both ways."""
MOST_USD_PER_HOUR = Decimal(10_000)

_SEVERAL = re.compile(r"([1-9][0-9]{0,3})x-(ml\..+)", re.ASCII)
_TRAINING = re.compile(r"(?:[A-Z0-9]+-)?Train:(ml\.[a-z0-9.-]+)")
"""On-demand training; not SpotTrain, not a warm pool, not hosting (`Host:`) or notebooks."""


def filters(region: str) -> list[dict[str, str]]:
    """What `GetProducts` is asked for: all training in a region. The rest is sorted out here."""
    return [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
        {"Type": "CONTAINS", "Field": "usagetype", "Value": "Train:ml."},
    ]


def offers_of(
    price_list: Iterable[str], region: str, as_of: str, instances: int = 1
) -> Iterator[Offer]:
    """On demand and spot, for every shape that this region sells. An unknown price is None.

    Each offer is for a job of so many instances: all their GPUs, at the price of all of them.
    """
    for instance, usd in sorted(hourly(price_list, region).items()):
        shape = SHAPES[instance]
        for spot in (False, True):
            yield Offer(
                provider="sagemaker",
                id=offer_id(instance, instances, spot=spot),
                gpu=shape.gpu,
                gpu_count=shape.count * instances,
                machines=instances,
                usd_per_hour=None if usd is None else usd * instances,
                spot=spot,
                region=region,
                availability=Availability.UNKNOWN,
                source=SPOT_SOURCE if spot else SOURCE,
                as_of=as_of,
            )


def hourly(price_list: Iterable[str], region: str) -> dict[str, Decimal | None]:
    """Dollars an hour by instance type; None where two prices contradict each other, or make none.

    Each entry is a JSON text. What cannot be read is not for sale.
    """
    found: dict[str, Decimal | None] = {}
    for text in price_list:
        try:
            product = json.loads(text, parse_float=Decimal)
        except (ValueError, TypeError, RecursionError):
            continue
        instance = _instance(product, region)
        if instance is None:
            continue
        usd = _usd(product)
        found[instance] = usd if found.get(instance, usd) == usd else None
    return found


def offer_id(instance: str, count: int, *, spot: bool) -> str:
    """What an offer is called: `ml.g5.xlarge`, `2x-ml.g5.xlarge-spot`."""
    return (f"{count}x-" if count > 1 else "") + instance + (SPOT if spot else "")


def instances_of(offer_id: str) -> tuple[str, int]:
    """The instance type of an offer, and how many of them a job of it has."""
    several = _SEVERAL.fullmatch(offer_id)
    count, instance = (int(several[1]), several[2]) if several else (1, offer_id)
    return instance.removesuffix(SPOT), count


def _instance(product: Any, region: str) -> str | None:
    attributes = _get(product, "product", "attributes")
    if not isinstance(attributes, Mapping) or attributes.get("regionCode") != region:
        return None
    match = _TRAINING.fullmatch(str(attributes.get("usagetype")))
    return match.group(1) if match and match.group(1) in SHAPES else None


def _usd(product: Any) -> Decimal | None:
    """The one hourly on-demand price of a product; None where it has not exactly one."""
    terms = _get(product, "terms", "OnDemand")
    prices: set[Decimal | None] = set()
    for term in terms.values() if isinstance(terms, Mapping) else ():
        dimensions = _get(term, "priceDimensions")
        for dimension in dimensions.values() if isinstance(dimensions, Mapping) else ():
            hours = str(_get(dimension, "unit")).lower() in {"hrs", "hr", "hour", "hours"}
            prices.add(_positive(_get(dimension, "pricePerUnit", "USD")) if hours else None)
    return prices.pop() if len(prices) == 1 else None


def _positive(value: Any) -> Decimal | None:
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and 0 < usd < MOST_USD_PER_HOUR else None


def _get(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
