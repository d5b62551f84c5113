"""The plan's ranked offers as the ledger keeps them, so that a relaunch needs no new plan."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.offers import Availability, Offer


def dump_offers(offers: Sequence[Offer]) -> str:
    """Offers as JSON, in order."""
    return json.dumps([asdict(offer) for offer in offers], default=str)


def load_offers(text: str) -> list[Offer]:
    """The offers of `dump_offers`."""
    return [_offer(raw) for raw in json.loads(text)]


def _offer(raw: dict[str, Any]) -> Offer:
    known = {f.name for f in fields(Offer)}
    values = {name: value for name, value in raw.items() if name in known}
    values["gpu"] = _gpu(raw["gpu"])
    values["availability"] = Availability(raw["availability"])
    for name in ("usd_per_hour", "disk_usd_per_gib_hour"):
        values[name] = None if values.get(name) is None else Decimal(values[name])
    return Offer(**values)


def _gpu(raw: dict[str, Any]) -> GPU:
    known = {f.name for f in fields(GPU)}
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in raw.items()}
    return GPU(**{name: value for name, value in values.items() if name in known})
