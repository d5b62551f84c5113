"""What a simulated Azure knows of its one customer, and what it sells, dated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.testing.weather import Place
from kwanzaa_compute_azureml.prices import SPOT
from kwanzaa_compute_azureml.settings import Scope
from kwanzaa_compute_azureml.shapes import SHAPES

SUBSCRIPTION = "00000000-1111-2222-3333-444444444444"
TENANT = "55555555-6666-7777-8888-999999999999"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SECRET = "opens-nothing-but-this-simulation"  # noqa: S105 -- nobody's
SCOPE = Scope(SUBSCRIPTION, "simulated-group", "simulated-workspace")
REGION = "eastus"
DATASTORE, CONTAINER = "kwanzaa_runs", "runs"
OWN_DATASTORE, OWN_CONTAINER = "workspaceblobstore", "azureml-blobstore"
"""The workspace's own, where it keeps what jobs print."""
DATASTORES: Mapping[str, str] = {DATASTORE: CONTAINER, OWN_DATASTORE: OWN_CONTAINER}
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
    """What is for sale as places of a simulated cloud; `capacity` by offer id (rest: any)."""
    return [
        Place(_offer(size, spot), capacity=(capacity or {}).get(_offer(size, spot).id))
        for size in SHAPES
        for spot in (False, True)
    ]


def _offer(size: str, spot: bool) -> Offer:
    g, c, od, sp = SHAPES[size]
    return Offer(
        provider="azureml",
        id=f"{size}{SPOT}" if spot else size,
        gpu=find_gpu(g),
        gpu_count=c,
        usd_per_hour=Decimal(sp if spot else od),
        spot=spot,
        region=REGION,
        availability=Availability.AVAILABLE,
        source="simulated",
        as_of="2026-01-01T00:00:00Z",
    )
