"""What RunPod's replies mean: pure, and suspicious of every field."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.drivers.http import ReplyError, cleaned
from kwanzaa_compute.market.gpus import GPU, find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer

OURS = "kwz-"
SOURCE = "RunPod's own catalogue, REST v2, and 50 GB of disk"
DISK_GB = 50
DISK_USD_PER_HOUR = round(DISK_GB * Decimal("0.10") / 730, 6)
"""A machine's disk costs $0.10 a GB and month while it runs, beside the GPU. It is part of an
offer's price, or it would not count against the cap; a run that needs more is refused there."""
MOST_USD_PER_HOUR = Decimal(10_000)
LONGEST_NAME = 200
MOST_GB = 2000
SSH_PORT, MOST_PORT = 22, 65535
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")

_PHASES: Mapping[str, Phase] = {
    "PROVISIONING": Phase.QUEUED,
    "STARTING": Phase.STARTING,
    "RUNNING": Phase.RUNNING,
    "EXITED": Phase.EXITED,
    "ERROR": Phase.EXITED,
    "TERMINATED": Phase.GONE,
}
_STOCK: Mapping[str, Availability] = {
    "NONE": Availability.SOLD_OUT,
    "LOW": Availability.LOW,
    "MEDIUM": Availability.AVAILABLE,
    "HIGH": Availability.AVAILABLE,
}


def sighting_of(pod: Mapping[str, Any]) -> Sighting:
    """A pod as a sighting. Raises `ReplyError` where it cannot be told which pod it is.

    A status that we do not know is never absence: the machine may bill.
    """
    machine_id, name = pod.get("id"), pod.get("name")
    if not isinstance(machine_id, str) or not machine_id or not isinstance(name, str):
        raise ReplyError("a pod without an id or a name")
    status = pod.get("status")
    phase = _PHASES.get(status, Phase.RUNNING) if isinstance(status, str) else Phase.RUNNING
    cost = price_of(pod.get("cost"))
    return Sighting(
        machine_id,
        phase,
        name,
        usd_per_hour=None if phase is Phase.EXITED else cost,
        region=cleaned(str(pod.get("dataCenterId") or pod.get("cloud") or ""), LONGEST_NAME),
        detail=cleaned(str(status), LONGEST_NAME),
    )


def fleet_of(pods: Iterable[Any]) -> Iterator[Sighting]:
    """The pods that bear a name of ours. One that cannot be read spoils the list: it may be one."""
    for pod in pods:
        if not isinstance(pod, dict):
            raise ReplyError("the list of pods holds something else")
        sighting = sighting_of(pod)
        if sighting.name.startswith(OURS):
            yield sighting


def address_of(pod: Mapping[str, Any]) -> tuple[str, int] | None:
    """Host and port that lead to a pod's own SSH server; None: none do (yet).

    Never RunPod's proxy: whoever connects there meets a host key of the proxy's.
    """
    direct, runtime = _mapping(_mapping(pod.get("ssh")).get("direct")), _mapping(pod.get("runtime"))
    ways: list[tuple[Any, Any]] = [(direct.get("host"), direct.get("port"))]
    ways += [
        (port.get("ip"), port.get("public"))
        for port in map(_mapping, _list(runtime.get("ports")))
        if (port.get("private"), port.get("type")) == (SSH_PORT, "tcp")
    ]
    for host, port in ways:
        is_host = isinstance(host, str) and _HOST.fullmatch(host)
        if is_host and type(port) is int and 0 < port <= MOST_PORT:
            return str(host), port
    return None


def offers_of(gpus: Iterable[Any], cloud: str, as_of: str, place: str = "") -> Iterator[Offer]:
    """What a cloud sells, one GPU a machine. What cannot be read is not for sale.

    `place` is a data center: the offers are then those of that one. Whether a type is sold in a
    cloud at all says its flag; a price is listed either way.
    """
    for gpu in gpus:
        if not isinstance(gpu, dict) or gpu.get(cloud.lower()) is not True:
            continue
        gpu_id, prices = gpu.get("id"), gpu.get("price")
        if not isinstance(gpu_id, str) or not gpu_id or not isinstance(prices, dict):
            continue
        usd = price_of(prices.get(cloud.lower()))
        yield Offer(
            provider="runpod",
            id=gpu_id,
            gpu=_gpu(gpu_id, gpu),
            usd_per_hour=None if usd is None else usd + DISK_USD_PER_HOUR,
            region=place or cloud.lower(),
            availability=_stock(gpu, place),
            disk_gib=float(DISK_GB),
            source=SOURCE,
            as_of=as_of,
        )


def price_of(value: Any) -> Decimal | None:
    """Dollars an hour; None (unknown) for anything that is not a sane positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < MOST_USD_PER_HOUR:
        return None
    return Decimal(str(value))


def lines_of(events: Iterable[str]) -> Iterator[str]:
    """The lines in a pod's log; what RunPod itself says of the pod is marked as such."""
    for event in events:
        try:
            entry = json.loads(event)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("line"), str):
            continue
        mark = "runpod: " if entry.get("source") == "system" else ""
        for line in entry["line"].splitlines():
            yield f"{mark}{line}"


def _gpu(gpu_id: str, gpu: Mapping[str, Any]) -> GPU:
    memory = gpu.get("memory")
    gib = float(memory) if type(memory) is int and 0 < memory < MOST_GB else 0.0
    for name in (gpu_id, gpu.get("name")):
        if isinstance(name, str) and (found := find_gpu(name, box_gb=gib or None)):
            return found
    return unknown_gpu(cleaned(gpu_id, LONGEST_NAME), gib)


def _stock(gpu: Mapping[str, Any], place: str) -> Availability:
    level = gpu.get("availability")
    if place:
        here = [
            center.get("availability")
            for center in _list(gpu.get("dataCenters"))
            if isinstance(center, dict) and center.get("id") == place
        ]
        level = here[0] if here else "NONE"
    return (
        _STOCK.get(level, Availability.UNKNOWN) if isinstance(level, str) else Availability.UNKNOWN
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
