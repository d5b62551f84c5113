"""The weighing of all offers at once: filter, price and rank, fast enough for whole catalogues."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from kwanzaa_compute.market.breakdown import candidate_for
from kwanzaa_compute.market.candidates import Candidate, Detail, Reason, Refusal
from kwanzaa_compute.market.costs import MICRO, price_micro, time_cost_micro, usd
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.market.quotes import (
    Asked,
    Pace,
    Quote,
    cards_together,
    pace_of,
    quote,
    with_buffer,
)

if TYPE_CHECKING:
    from kwanzaa_compute.market.gpus import GPU

T = TypeVar("T")


class Lazily(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are looked at."""

    __slots__ = ("_count", "_make")

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        """`make` builds the item at an index from 0 to `count` - 1."""
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(map(self._make, range(self._count)[index]))
        return self._make(range(self._count)[index])

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(self._count))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._count} items>"


_RANK_BITS = 24
_PRICE_BITS = 44
"""Enough for every price that `price_micro` lets through."""

_kind_of = attrgetter(
    "provider",
    "gpu",
    "gpu_count",
    "machines",
    "spot",
    "billing_step_s",
    "minimum_s",
    "disk_usd_per_gib_hour",
    "disk_gib",
    "attended",
    "own_machine",
)
"""What offers have in common for which the run goes alike; all but the price, place and stock."""

Refused = tuple[int, Reason, Detail]
Kind = tuple[str, str, int]


class Weighed:
    """All offers weighed: the order of those that fit, and the codes of those that do not."""

    __slots__ = ("_ages", "asked", "offers", "quotes", "ranked", "refused")

    def __init__(self, asked: Asked, offers: tuple[Offer, ...]) -> None:
        """Weighs them: everything but the wording is done here."""
        self.asked = asked
        self.offers = offers
        self.refused: list[Refused] = []
        self._ages: dict[str, int | None] = {}
        kinds = self._kinds()
        self.quotes = [quoted for quoted, _ in kinds]
        priced = [self._priced(rank, *kind) for rank, kind in enumerate(kinds)]
        self._drop_pointless_spot(priced)
        self._drop_spot_alone(priced)
        self.ranked = [key for keys in priced for key in keys]
        self.ranked.sort()

    @property
    def _index_bits(self) -> int:
        return max(1, len(self.offers).bit_length())

    @property
    def _mask(self) -> int:
        return (1 << self._index_bits) - 1

    @property
    def _cost_shift(self) -> int:
        return self._index_bits + _PRICE_BITS + _RANK_BITS

    def _kinds(self) -> list[tuple[Quote, list[int]]]:
        """The offers of each kind with that kind's quote, the quickest kinds first."""
        buckets: dict[Any, list[int]] = {}
        for index, kind in enumerate(map(_kind_of, self.offers)):
            bucket = buckets.get(kind)
            if bucket is None:
                buckets[kind] = [index]
            else:
                bucket.append(index)
        paces: dict[tuple[GPU, int], Pace] = {}
        quoted = []
        for indices in buckets.values():
            offer = self.offers[indices[0]]
            kind = offer.gpu, cards_together(offer, self.asked)
            pace = paces.get(kind)
            if pace is None:
                pace = paces[kind] = pace_of(kind[0], self.asked, kind[1])
            quoted.append((quote(offer, pace, self.asked), indices))
        quoted.sort(key=self._haste)
        return quoted

    def _haste(self, quoted: tuple[Quote, list[int]]) -> tuple[float, float, int, str, str]:
        offer = self.offers[quoted[1][0]]
        went = quoted[0].courses
        hours = went.expected.wall_s if went else 0.0
        return hours, -offer.gpu.vram_gib, -offer.gpu_count, offer.provider, offer.gpu.name

    def _priced(self, rank: int, quoted: Quote, indices: list[int]) -> list[int]:
        """One sortable number an offer that fits; from high bits: cost, kind, price, index."""
        if quoted.refusal:
            code, detail = quoted.refusal
            self.refused.extend([(index, code, detail) for index in indices])
            return []
        if self.offers[indices[0]].own_machine:
            return self._owned(rank, indices)
        return self._for_sale(rank, quoted, indices)

    def _owned(self, rank: int, indices: list[int]) -> list[int]:
        found = []
        for index in indices:
            if self.offers[index].availability is Availability.SOLD_OUT:
                self.refused.append((index, Reason.SOLD_OUT, ()))
            else:
                found.append(rank << _PRICE_BITS << self._index_bits | index)
        return found

    def _for_sale(self, rank: int, quoted: Quote, indices: list[int]) -> list[int]:
        offers, refused, ages = self.offers, self.refused, self._ages
        sold_out, oldest = Availability.SOLD_OUT, self.asked.settings.max_price_age_days
        cap = self.asked.requirements.max_usd
        keys: dict[Decimal, int] = {}
        found: list[int] = []
        for index in indices:
            offer = offers[index]
            if offer.availability is sold_out:
                refused.append((index, Reason.SOLD_OUT, ()))
                continue
            price, key = offer.usd_per_hour, None
            # The type first: 0.5 of a careless driver equals Decimal("0.5") in the dictionary.
            if type(price) is Decimal and not price.is_snan():
                key = keys.get(price)
                if key is None:
                    key = keys[price] = self._key(rank, quoted, price)
            if not key:
                refused.append((index, Reason.PRICE_UNKNOWN, ()))
                continue
            as_of = offer.as_of
            age = ages[as_of] if as_of in ages else self._age_days(as_of)
            if age is not None and age > oldest:
                refused.append((index, Reason.PRICE_OLD, (as_of, age, oldest)))
                continue
            if key < 0:
                refused.append((index, Reason.CAP, (_cents(-key), f"{cap:.2f}")))
                continue
            found.append(key | index)
        return found

    def _key(self, rank: int, quoted: Quote, usd_per_hour: Decimal) -> int:
        """What offers of a kind sort by at that price, room left for their index.

        0 where the price is unknown; the cost below zero where it is more than the cap.
        """
        price = price_micro(usd_per_hour)
        if price is None:
            return 0
        cost = time_cost_micro(price, quoted.billed_s) + quoted.fixed_micro
        cost = with_buffer(cost, self.asked.settings.extras.buffer)
        cap = self.asked.requirements.max_usd
        if cap is not None and cost > int(cap * MICRO):
            return -cost
        return ((cost << _RANK_BITS | rank) << _PRICE_BITS | price) << self._index_bits

    def _age_days(self, as_of: str) -> int | None:
        """How old a price is; None where its date or today's is unknown."""
        now, age = self.asked.settings.now, None
        if now is not None and as_of:
            try:
                then = date.fromisoformat(as_of[:10])
                age = (datetime.fromtimestamp(now, UTC).date() - then).days
            except ValueError:
                age = None
        self._ages[as_of] = age
        return age

    def _drop_pointless_spot(self, priced: list[list[int]]) -> None:
        """Refuses spot machines beside which an on-demand one does the run as cheaply."""
        spots: dict[Kind, list[list[int]]] = {}
        on_demand: dict[Kind, list[list[int]]] = {}
        for keys in priced:
            if keys:
                offer = self._offer(keys[0])
                if not offer.own_machine:
                    kind = (offer.provider, offer.gpu.name, offer.gpu_count)
                    (spots if offer.spot else on_demand).setdefault(kind, []).append(keys)
        for kind, spot_keys in spots.items():
            beside = self._cheapest_by_region(on_demand.get(kind, []))
            for keys in spot_keys if beside else ():
                keys[:] = self._worth_while(keys, beside)

    def _drop_spot_alone(self, priced: list[list[int]]) -> None:
        """Refuses spot machines that may miss the deadline, where nothing can take over in time."""
        if any(keys and not self._offer(keys[0]).spot for keys in priced):
            return
        for quoted, keys in zip(self.quotes, priced, strict=True):
            if quoted.alone:
                self.refused.extend([(key & self._mask, *quoted.alone) for key in keys])
                keys.clear()

    def _cheapest_by_region(self, priced: list[list[int]]) -> dict[str, int]:
        cheapest: dict[str, int] = {}
        mask, shift = self._mask, self._cost_shift
        for keys in priced:
            for key in keys:
                region, cost = self.offers[key & mask].region, key >> shift
                if cheapest.get(region, cost) >= cost:
                    cheapest[region] = cost
        return cheapest

    def _worth_while(self, keys: list[int], beside: dict[str, int]) -> list[int]:
        kept, mask, shift = [], self._mask, self._cost_shift
        for key in keys:
            limit = beside.get(self.offers[key & mask].region)
            if limit is None or key >> shift < limit:
                kept.append(key)
            else:
                self.refused.append((key & mask, Reason.SPOT_DEARER, (_cents(limit),)))
        return kept

    def _offer(self, key: int) -> Offer:
        return self.offers[key & self._mask]

    def refusal(self, position: int) -> Refusal:
        """The refusal at that position."""
        index, code, detail = self.refused[position]
        return Refusal(self.offers[index], code, detail)

    def candidate(self, position: int) -> Candidate:
        """The candidate of that rank, with its whole breakdown."""
        key = self.ranked[position]
        rank = key >> (self._index_bits + _PRICE_BITS) & ((1 << _RANK_BITS) - 1)
        offer = self._offer(key)
        return candidate_for(offer, self.quotes[rank], self.asked, self._age_days(offer.as_of))


def _cents(micro: int) -> str:
    """Dollars for a wording; a hundredth of a cent more exact where there is less than one."""
    return f"{usd(micro):.2f}" if micro >= MICRO else f"{usd(micro):.4f}"
