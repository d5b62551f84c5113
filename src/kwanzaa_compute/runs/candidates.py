"""The plan's ranked offers as the ledger keeps them, so that a relaunch needs no new plan."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.runs.records import USUAL_DISK_GIB, Prospect, names_of, values_of

_TIMES = ("set_up_s", "work_s", "checkpoint_s")
_DISK = "needs_disk_gib"


def dump_prospects(prospects: Sequence[Prospect]) -> str:
    """Prospects as JSON, in order: each its offer's fields, with the times beside them."""
    rows = [
        {
            **values_of(prospect.offer),
            "gpu": values_of(prospect.offer.gpu),
            **{name: getattr(prospect, name) for name in _TIMES},
            _DISK: prospect.disk_gib,
        }
        for prospect in prospects
    ]
    return json.dumps(rows, default=str)


def load_prospects(text: str) -> list[Prospect]:
    """The prospects of `dump_prospects`; of an older version's offers the times are unknown."""
    return list(_loaded(text))


@lru_cache(maxsize=32)
def _loaded(text: str) -> tuple[Prospect, ...]:
    """Kept, for a watcher reads the same text at each of its looks."""
    return tuple(
        Prospect(
            _offer(raw),
            **{name: float(raw.get(name) or 0.0) for name in _TIMES},
            disk_gib=float(raw.get(_DISK) or USUAL_DISK_GIB),
        )
        for raw in json.loads(text)
    )


def as_of_now(
    prospects: Sequence[Prospect], news: Mapping[tuple[str, str, str], Offer]
) -> list[Prospect]:
    """Prospects at today's price and availability, by place, in the order that they had.

    What is no longer listed stays as it was planned: asking for it is the only way to know. A
    price that is no price is no news.
    """
    return [_renewed(p, news.get(p.place)) for p in prospects]


def _renewed(prospect: Prospect, live: Offer | None) -> Prospect:
    if live is None:
        return prospect
    price = live.usd_per_hour
    if price is None or not price.is_finite() or price <= 0:
        price = prospect.offer.usd_per_hour
    if (price, live.availability) == (prospect.offer.usd_per_hour, prospect.offer.availability):
        return prospect
    offer = replace(prospect.offer, usd_per_hour=price, availability=live.availability)
    return replace(prospect, offer=offer)


def load_offers(text: str) -> list[Offer]:
    """The offers alone."""
    return [prospect.offer for prospect in load_prospects(text)]


def _offer(raw: dict[str, Any]) -> Offer:
    values = {name: raw[name] for name in names_of(Offer) if name in raw}
    values["gpu"] = _gpu(raw["gpu"])
    values["availability"] = Availability(raw["availability"])
    for name in ("usd_per_hour", "disk_usd_per_gib_hour"):
        values[name] = None if values.get(name) is None else Decimal(values[name])
    return Offer(**values)


def _gpu(raw: dict[str, Any]) -> GPU:
    known = {name: raw[name] for name in names_of(GPU) if name in raw}
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in known.items()}
    return GPU(**values)
