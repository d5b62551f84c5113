"""Each provider's last answer about its prices, for when it cannot be asked.

One file a provider in `$KWANZAA_HOME/prices`, always replaced whole, so any number of processes
may read and write. Whatever is wrong with a file or with the disk, it counts as absent: a cache
never stops a plan. It holds offers, which are public; no credential ever comes here.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kwanzaa_compute.clock import iso
from kwanzaa_compute.market.gpus import GPU, find_gpu
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.market.prices import parsed_price

FOLDER = "prices"
SCHEMA = 1
MOST_BYTES = 64 << 20
"""A larger file is none of ours."""

_UNUSABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading a file of somebody else's making may raise."""

_Kinds = tuple[type, ...]
_PLAIN: Mapping[str, _Kinds] = {
    "id": (str,),
    "gpu_count": (int,),
    "machines": (int,),
    "spot": (bool,),
    "region": (str,),
    "billing_step_s": (int,),
    "minimum_s": (int,),
    "disk_gib": (int, float, type(None)),
    "source": (str,),
    "as_of": (str,),
    "attended": (bool,),
}
"""Fields that JSON keeps as they are, with the types that they may have."""
_COLUMNS = (*_PLAIN, "usd_per_hour", "disk_usd_per_gib_hour", "gpu")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider last sold, and when it said so (seconds since the epoch)."""

    offers: tuple[Offer, ...]
    asked_at: float

    @property
    def day(self) -> str:
        """The day of the answer, as an ISO date in UTC."""
        return iso(self.asked_at)[:10]


@dataclass(frozen=True, slots=True)
class PriceCache:
    """The answers below one folder. Neither method ever raises."""

    folder: Path

    def keep(self, provider: str, offers: Iterable[Offer], now: float) -> None:
        """Replaces what is known of a provider; an answer without offers is not worth keeping."""
        rows = [_row(offer) for offer in offers if not offer.own_machine]
        if not rows:
            return
        document = {
            "schema": SCHEMA,
            "provider": provider,
            "asked_at": now,
            "columns": _COLUMNS,
            "rows": rows,
        }
        try:
            self._replace(provider, json.dumps(document))
        except (OSError, TypeError, ValueError):
            return  # a full disk, or a driver's offer that JSON cannot hold

    def recall(self, provider: str, now: float) -> Answer | None:
        """The provider's last answer; None where there is none that can be used.

        Its offers are marked `cached`, their stock is unknown by now, and none is dated later
        than the answer.
        """
        try:
            raw = self._path(provider).read_bytes()
            return _answer(json.loads(raw), provider, now) if len(raw) <= MOST_BYTES else None
        except _UNUSABLE:
            return None

    def _path(self, provider: str) -> Path:
        return self.folder / f"{quote(provider, safe='')}.json"

    def _replace(self, provider: str, text: str) -> None:
        import tempfile

        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self._path(provider)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", dir=self.folder)
        partial = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _row(offer: Offer) -> list[object]:
    known = find_gpu(offer.gpu.name) == offer.gpu
    price, disk = offer.usd_per_hour, offer.disk_usd_per_gib_hour
    return [
        *(getattr(offer, name) for name in _PLAIN),
        None if price is None else str(price),
        str(disk),
        offer.gpu.name if known else asdict(offer.gpu),
    ]


def _answer(raw: Any, provider: str, now: float) -> Answer:
    """Raises one of the errors that `recall` knows where this is not what `keep` wrote."""
    asked_at = float(raw["asked_at"])
    if raw["schema"] != SCHEMA or raw["provider"] != provider or not 0 <= asked_at <= now:
        raise ValueError("not this provider's answer, or one of the future")
    columns = raw["columns"]
    rows = (dict(zip(columns, row, strict=True)) for row in raw["rows"])
    asked = iso(asked_at)
    return Answer(tuple(_offer(row, provider, asked) for row in rows), asked_at)


def _offer(row: Mapping[str, Any], provider: str, asked: str) -> Offer:
    plain = {name: _typed(row[name], kinds) for name, kinds in _PLAIN.items()}
    price, disk = row["usd_per_hour"], Decimal(row["disk_usd_per_gib_hour"])
    offer = Offer(
        provider=provider,
        gpu=_gpu(row["gpu"]),
        usd_per_hour=None if price is None else parsed_price(_typed(price, (str,))),
        disk_usd_per_gib_hour=disk if disk.is_finite() and disk > 0 else Decimal(0),
        availability=Availability.UNKNOWN,
        cached=True,
        **plain,
    )
    day = offer.as_of[:10]
    dated = offer.as_of if len(day) == len(asked[:10]) and day <= asked[:10] else asked
    return replace(offer, as_of=dated, source=f"answer of {asked}: {offer.source}")


def _typed(value: Any, kinds: _Kinds) -> Any:
    """The value, if it is of such a type: a flag is no number, and no number is NaN."""
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"{value!r} is no {kinds[0].__name__}")
    return value


def _gpu(raw: Any) -> GPU:
    if isinstance(raw, str):
        found = find_gpu(raw)
        if found is None:
            raise ValueError(f"the GPU {raw!r} has left the table")
        return found
    figures = {name: _figure(value) for name, value in raw.items()}
    gpu = GPU(**figures)
    if len(gpu.compute_capability) != 2:  # noqa: PLR2004 -- major and minor
        raise ValueError("a compute capability has two parts")
    return gpu


def _figure(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_typed(item, (str, int)) for item in value)
    return _typed(value, (str, int, float))
