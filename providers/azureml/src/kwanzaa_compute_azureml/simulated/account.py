"""What a simulated Azure knows of its one customer, and what it sells, dated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.testing.weather import Place
from kwanzaa_compute_azureml.prices import BILLING_STEP_S, SPOT, Meter
from kwanzaa_compute_azureml.settings import Scope
from kwanzaa_compute_azureml.shapes import SHAPES
from kwanzaa_compute_azureml.simulated.retail import REGION, USD_PER_HOUR

SUBSCRIPTION = "00000000-1111-2222-3333-444444444444"
TENANT = "55555555-6666-7777-8888-999999999999"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SECRET = "opens-nothing-but-this-simulation"  # noqa: S105 -- nobody's
SCOPE = Scope(SUBSCRIPTION, "simulated-group", "simulated-workspace")
DATASTORE, CONTAINER = "kwanzaa_runs", "runs"
OWN_DATASTORE, PRINTED = "workspaceblobstore", "workspaceartifactstore"
"""The workspace's own, and where it keeps what jobs print."""
DATASTORES: Mapping[str, str] = {
    DATASTORE: CONTAINER,
    OWN_DATASTORE: "azureml-blobstore",
    PRINTED: "azureml",
}
"""What each begins its container's name with."""


@dataclass(slots=True)
class Account:
    """The customer."""

    secrets: dict[str, str] = field(default_factory=lambda: {CLIENT: SECRET})
    expired: set[str] = field(default_factory=set)
    """Applications whose secret is too old."""
    denied: set[str] = field(default_factory=set)
    """Kinds of calls that this caller may not make: "PUT jobs", say."""
    quotas: dict[str, int] = field(default_factory=dict)
    """How many machines of a size may run at once; a size that is not named: any number."""
    unknown_sizes: set[str] = field(default_factory=set)
    """Sizes that this region does not have after all."""
    region: str = REGION
    skew: str = ""
    """What every call is refused with, where the caller's clock is wrong."""
    page_size: int = 50


def places(capacity: Mapping[str, int] | None = None) -> list[Place]:
    """What is for sale as places of a simulated cloud; `capacity` by `place_id` (rest: any)."""
    found = []
    for size, prices in USD_PER_HOUR.items():
        for meter, usd in zip(Meter, prices, strict=True):
            offer = _offer(size, meter, usd)
            found.append(Place(offer, capacity=(capacity or {}).get(offer.id)))
    return found


def place_id(size: str, meter: Meter) -> str:
    """Which machines are meant: those of one size, and how they are paid."""
    suffix = {Meter.REGULAR: "", Meter.SPOT: SPOT, Meter.LOW_PRIORITY: "-low-priority"}
    return f"{size}{suffix[meter]}"


def _offer(size: str, meter: Meter, usd: str) -> Offer:
    return Offer(
        provider="azureml",
        id=place_id(size, meter),
        gpu=SHAPES[size].gpu,
        gpu_count=SHAPES[size].count,
        usd_per_hour=Decimal(usd),
        spot=meter is not Meter.REGULAR,
        region=REGION,
        availability=Availability.AVAILABLE,
        billing_step_s=BILLING_STEP_S,
        source="simulated",
        as_of="2026-01-01T00:00:00Z",
    )
