"""Lambda's answers, checked and turned into our words. What is not understood is no answer."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.drivers.http import ReplyError, cleaned
from kwanzaa_compute.market.gpus import GPU, LEAST_REPORTED, find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer

NAME_TAG = "kwanzaa-name"
OURS = "kwz-"
SOURCE = "Lambda Cloud API"
BILLING_STEP_S = 60
"""Lambda bills by the minute, by all that is said of it; its API does not say."""
MOST_CENTS = 10_000_000
"""No machine costs $100,000 an hour: a figure beyond is none."""

_GPU = re.compile(r"(?P<name>[^()]+?)\s*\(\s*(?P<gb>\d+)\s*GB\b\s*(?P<form>[^()]*)\)")
_PHASES = {
    "booting": Phase.STARTING,
    "active": Phase.RUNNING,
    "unhealthy": Phase.RUNNING,
    "terminating": Phase.STOPPING,
    "terminated": Phase.GONE,
    "preempted": Phase.PREEMPTED,
}
T = TypeVar("T", bound="Reply")


class Reply(BaseModel):
    """What we need of an answer; whatever else is in it is left alone."""

    # An error must not quote its input: an instance's answer holds a token.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)


class Region(Reply):
    """A region that has capacity."""

    name: str = Field(min_length=1)


class Specs(Reply):
    """What a machine of a type has."""

    storage_gib: int = Field(gt=0, lt=1 << 40)
    gpus: int = Field(gt=0, lt=1 << 20)


class InstanceType(Reply):
    """One machine shape. The price is for the whole machine; VRAM is in words only."""

    name: str = Field(min_length=1)
    gpu_description: str
    price_cents_per_hour: int
    specs: Specs


class InstanceTypesItem(Reply):
    """A shape, and where it could be had when we asked."""

    instance_type: InstanceType
    regions_with_capacity_available: list[Region]


class InstanceTypes(Reply):
    """Everything for sale."""

    data: dict[str, InstanceTypesItem]


class Tag(Reply):
    """A tag of a machine."""

    key: str
    value: str


class Instance(Reply):
    """One machine."""

    id: str = Field(min_length=1)
    status: str
    name: str = ""
    ip: str = ""
    region: Region | None = None
    instance_type: InstanceType | None = None
    tags: list[Tag] = []

    @property
    def our_name(self) -> str:
        """The name that we gave it, even where somebody has renamed it since; "" if not ours."""
        tagged = next((tag.value for tag in self.tags if tag.key == NAME_TAG), "")
        return next((name for name in (tagged, self.name) if name.startswith(OURS)), "")

    @property
    def address(self) -> str:
        """Its address; "" where it has none, or none that is an address."""
        try:
            return str(ipaddress.ip_address(self.ip))
        except ValueError:
            return ""


class OneInstance(Reply):
    """The answer about one machine."""

    data: Instance


class Instances(Reply):
    """The account's machines."""

    data: list[Instance]


class _Launched(Reply):
    instance_ids: list[str] = Field(min_length=1)


class Launched(Reply):
    """The answer to a launch."""

    data: _Launched


class SshKey(Reply):
    """A public key that the account knows."""

    name: str
    public_key: str


class SshKeys(Reply):
    """The account's public keys."""

    data: list[SshKey]


def read(kind: type[T], answer: Any) -> T:
    """An answer as what it should be. Raises `ReplyError`, which quotes nothing of it."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "content"
    except RecursionError:
        where = "depth"
    raise ReplyError(f"an answer without a proper {cleaned(where, 60)}")


def offers_of(answer: InstanceTypes, as_of: str) -> list[Offer]:
    """One offer for each type and region; a type that is sold out has one without a region."""
    return [
        _offer(item.instance_type, region, as_of)
        for item in _each_once(answer.data.values())
        for region in _regions(item.regions_with_capacity_available)
    ]


def _each_once(items: Iterable[InstanceTypesItem]) -> list[InstanceTypesItem]:
    return list({item.instance_type.name: item for item in items}.values())


def _regions(regions: Sequence[Region]) -> list[str]:
    return list(dict.fromkeys(region.name for region in regions)) or [""]


def _offer(shape: InstanceType, region: str, as_of: str) -> Offer:
    return Offer(
        provider="lambda",
        id=shape.name,
        gpu=gpu_of(shape.gpu_description),
        gpu_count=shape.specs.gpus,
        usd_per_hour=usd_per_hour(shape),
        region=region,
        availability=Availability.AVAILABLE if region else Availability.SOLD_OUT,
        billing_step_s=BILLING_STEP_S,
        disk_gib=float(shape.specs.storage_gib),
        source=SOURCE,
        as_of=as_of,
    )


def usd_per_hour(shape: InstanceType) -> Decimal | None:
    """Dollars an hour for the whole machine; None where what stands there is no price."""
    cents = shape.price_cents_per_hour
    return Decimal(cents) / 100 if 0 < cents <= MOST_CENTS else None


def gpu_of(description: str) -> GPU:
    """The GPU that a description like "A100 (40 GB SXM4)" means.

    The memory that stands there decides between cards of one name. A card that is not in our
    table has the memory that stands there, and nothing else: a plan refuses it and says why.
    """
    found = _GPU.fullmatch(description.strip())
    if found is None:
        return unknown_gpu(cleaned(description, 60))
    name, gb, form = found["name"], float(found["gb"]), found["form"].strip()
    exact = f"{name} {found['gb']}GB"
    for spelling in (f"{exact} {form}", exact, f"{name} {form}", name):
        gpu = find_gpu(spelling, box_gb=gb)
        if gpu is not None and gb > 0 and LEAST_REPORTED <= gpu.vram_gib / gb <= 1:
            return gpu
    return unknown_gpu(cleaned(description, 60), vram_gib=LEAST_REPORTED * gb)


def sighting_of(instance: Instance) -> Sighting:
    """What one machine is doing. A status that we do not know is never taken for absence."""
    phase = _PHASES.get(instance.status, Phase.RUNNING)
    known = instance.status in _PHASES and instance.status != "unhealthy"
    shape = instance.instance_type
    return Sighting(
        machine_id=instance.id,
        phase=phase,
        name=instance.our_name,
        usd_per_hour=usd_per_hour(shape) if shape else None,
        region=instance.region.name if instance.region else "",
        detail="" if known else cleaned(instance.status, 60),
    )
