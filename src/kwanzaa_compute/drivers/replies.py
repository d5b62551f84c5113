"""What a driver hands over, held against what its types promise: providers send anything. Pure.

A value of the wrong type raises `UnsoundReplyError`, whose text says which one; an odd *text* is
kept, for whoever shows it makes it harmless. Prices are judged by the plan, which refuses the
absurd ones.
"""

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.offers import Availability, Offer

LONGEST = 1000
"""Characters of an id, a name or a region; no provider of ours comes near it."""
LONGEST_DETAIL = 2000
_MOST = 1 << 53


class UnsoundReplyError(ValueError):
    """A driver handed over something that its types do not allow."""


def sound_sighting(reply: Any) -> Sighting:
    """A sighting whose every field is what it promises."""
    if not isinstance(reply, Sighting):
        raise UnsoundReplyError(f"no sighting but {_kind(reply)}")
    for name in ("machine_id", "name", "region"):
        _text(name, getattr(reply, name))
    _member("phase", reply.phase, Phase)
    if reply.exit_code is not None:
        _whole("exit_code", reply.exit_code, least=-_MOST)
    if reply.usd_per_hour is not None:
        _usd("usd_per_hour", reply.usd_per_hour)
    if type(reply.detail) is not str:
        raise UnsoundReplyError(f"detail is {_kind(reply.detail)}")
    if len(reply.detail) > LONGEST_DETAIL:
        return replace(reply, detail=f"{reply.detail[:LONGEST_DETAIL]} ...")
    return reply


def sound_listing(replies: Iterable[Any]) -> tuple[Sighting, ...]:
    """All machines of a listing, or none: half a list would prove machines absent."""
    listing = tuple(map(sound_sighting, _many(replies)))
    nameless = [s for s in listing if not s.machine_id and s.phase is not Phase.GONE]
    if nameless:
        raise UnsoundReplyError("a machine has no id")
    return listing


def sound_offers(replies: Iterable[Any], provider: str) -> tuple[Offer, ...]:
    """Offers of this very provider, each field of the type that it promises."""
    return tuple(_sound_offer(reply, provider) for reply in _many(replies))


def sound_id(reply: Any) -> str:
    """The id of a new machine."""
    _text("the machine's id", reply)
    if not reply.strip() or not reply.isprintable():
        raise UnsoundReplyError("the machine's id is no id")
    return str(reply)


def _sound_offer(reply: Any, provider: str) -> Offer:
    if not isinstance(reply, Offer):
        raise UnsoundReplyError(f"no offer but {_kind(reply)}")
    for name in ("provider", "id", "region", "source", "as_of"):
        _text(name, getattr(reply, name))
    if reply.provider != provider:
        raise UnsoundReplyError(f"an offer of {reply.provider!r}")
    if not isinstance(reply.gpu, GPU):
        raise UnsoundReplyError(f"gpu is {_kind(reply.gpu)}")
    _whole("gpu_count", reply.gpu_count, least=1)
    _whole("machines", reply.machines, least=1)
    _whole("billing_step_s", reply.billing_step_s, least=1)
    _whole("minimum_s", reply.minimum_s, least=0)
    if not isinstance(reply.usd_per_hour, Decimal | None):
        raise UnsoundReplyError(f"usd_per_hour is {_kind(reply.usd_per_hour)}")
    _usd("disk_usd_per_gib_hour", reply.disk_usd_per_gib_hour)
    disk = reply.disk_gib
    if disk is not None and not (type(disk) in {int, float} and math.isfinite(disk) and disk >= 0):
        raise UnsoundReplyError("disk_gib is no size")
    _member("availability", reply.availability, Availability)
    for field in fields(reply):
        if field.type in {bool, "bool"} and type(getattr(reply, field.name)) is not bool:
            raise UnsoundReplyError(f"{field.name} is neither true nor false")
    return reply


def _many(replies: Any) -> Iterable[Any]:
    if isinstance(replies, str | bytes | dict) or not isinstance(replies, Iterable):
        raise UnsoundReplyError(f"no list but {_kind(replies)}")
    return replies


def _text(name: str, value: Any) -> None:
    if type(value) is not str:
        raise UnsoundReplyError(f"{name} is {_kind(value)}")
    if len(value) > LONGEST:
        raise UnsoundReplyError(f"{name} has {len(value)} characters")


def _member(name: str, value: Any, kind: type[StrEnum]) -> None:
    if not isinstance(value, kind):
        raise UnsoundReplyError(f"{name} is {_kind(value)}")


def _whole(name: str, value: Any, *, least: int) -> None:
    if type(value) is not int or not least <= value < _MOST:
        raise UnsoundReplyError(f"{name} is no number that it could be")


def _usd(name: str, value: Any) -> None:
    if not isinstance(value, Decimal) or not value.is_finite() or value < 0:
        raise UnsoundReplyError(f"{name} is no amount of dollars")


def _kind(value: Any) -> str:
    return type(value).__name__
