"""What is for sale, and what a run needs of it."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from kwanzaa_compute.market.gpus import GPU


class Availability(StrEnum):
    """What the provider says about stock right now."""

    AVAILABLE = "available"
    LOW = "low"
    SOLD_OUT = "sold out"
    UNKNOWN = "unknown"


class Precision(StrEnum):
    """What number formats a run can live with."""

    BF16_REQUIRED = "bf16 required"
    BF16_PREFERRED = "bf16 preferred"
    FP16_ALLOWED = "fp16 allowed"


@dataclass(frozen=True, slots=True)
class Offer:
    """One rentable machine shape at one price; or several such machines that make one job.

    `usd_per_hour` is for the whole machine, or all of them. None means that the price is *unknown*;
    no offer of somebody else's machine is ever free. Only this very machine (`own_machine`) costs
    zero.
    `billing_step_s` is the unit that the provider rounds up to, `minimum_s` what it always bills.
    """

    provider: str
    id: str
    gpu: GPU
    gpu_count: int = 1
    usd_per_hour: Decimal | None = None
    spot: bool = False
    region: str = ""
    availability: Availability = Availability.UNKNOWN
    billing_step_s: int = 1
    minimum_s: int = 0
    disk_usd_per_gib_hour: Decimal = Decimal(0)
    disk_gib: float | None = None
    source: str = ""
    as_of: str = ""
    own_machine: bool = False
    machines: int = 1
    """How many machines of one job it stands for: the GPUs and the price are those of all."""
    attended: bool = False
    """Somebody has to keep a browser open; never picked without being asked for."""
    cached: bool = False
    """What the provider last said: it could not be asked this time."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a run asks of a machine: memory and disk in GiB, times in hours, money in dollars.

    None leaves the choice open. `max_hours` limits what may be billed, `deadline_h` the wall time
    until the adapter is there. `gpu` names a GPU or a family ("A100"). `features` are those
    that the provider's driver must claim.
    """

    vram_gib: float
    disk_gib: float
    precision: Precision = Precision.BF16_PREFERRED
    gpu_count: int = 1
    max_usd: Decimal | None = None
    max_hours: float | None = None
    deadline_h: float | None = None
    spot: bool | None = None
    gpu: str | None = None
    features: frozenset[str] = field(default_factory=frozenset)
