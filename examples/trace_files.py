"""Reads the recorded traces that `trace_study.py` replays, and prices their machines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.prices import bundled_offers
from kwanzaa_compute.testing.weather import Place, Trace

STEP_S = 195.0
"""The interval at which the AWS zones were asked. The others are sampled at the same."""
V100, A100 = "V100-16GB", "A100-80GB"
PRICED_BY = "azureml"
"""The traces have no prices. Azure sells one of either GPU, on-demand and spot, in one region."""
_MANY_STEPS = 5000
_LONG_H = 12


@dataclass(frozen=True, slots=True)
class Setting:
    """Traces that are studied together. Each group is the places that one run can choose from."""

    name: str
    groups: tuple[tuple[Place, ...], ...]
    starts_a_group: int
    step_s: float = STEP_S

    @property
    def on_demand_usd(self) -> Decimal:
        """What an hour on-demand costs."""
        return self.groups[0][-1].offer.usd_per_hour or Decimal(0)

    def starts(self, places: Sequence[Place], job_h: float) -> range:
        """Steps at which a run starts, evenly over the trace; fewer for a long job."""
        length = min(len(p.trace.available) for p in places if p.trace is not None)
        count = self.starts_a_group
        if job_h > _LONG_H and length > _MANY_STEPS:
            count //= 4
        return range(0, length - length % count, length // count)


def settings(folder: Path) -> Iterator[Setting]:
    """All of the study."""
    zones = {path.stem: aws_zone(path) for path in sorted(folder.glob("aws-v100-2023/*.json"))}
    v100, a100 = Prices.of(V100), Prices.of(A100)
    yield Setting("AWS V100, five zones", (v100.places(zones),), 500)
    alone = tuple(v100.places({zone: trace}) for zone, trace in zones.items())
    yield Setting("AWS V100, one zone", alone, 48)
    slots = bamboo_slots(folder / "bamboo" / "p3-trace.csv")
    yield Setting("Bamboo p3, one slot", tuple(v100.places({"aws": s}) for s in slots), 3)
    slots = bamboo_counts(folder / "bamboo" / "a100x1-east1b.txt")
    yield Setting("Bamboo A100, one slot", tuple(a100.places({"east1b": s}) for s in slots), 3)


@dataclass(frozen=True, slots=True)
class Prices:
    """The two offers of a GPU that stand for its machines everywhere."""

    on_demand: Offer
    spot: Offer

    @classmethod
    def of(cls, gpu: str) -> "Prices":
        """The newest price of one such GPU in the bundled list, on-demand and spot."""
        mine = [o for o in bundled_offers() if (o.provider, o.gpu.name) == (PRICED_BY, gpu)]
        one = [o for o in mine if o.gpu_count == 1 and o.region]
        on_demand, spot = (
            max((o for o in one if o.spot is kind), key=lambda o: o.as_of) for kind in (False, True)
        )
        return cls(on_demand, spot)

    def places(self, traces: dict[str, Trace]) -> tuple[Place, ...]:
        """A spot place for each trace, and on-demand, which is always there, last."""
        spots = [Place(replace(self.spot, region=r), trace=t) for r, t in traces.items()]
        return (*spots, Place(self.on_demand))


def aws_zone(path: Path) -> Trace:
    """One zone: whether a V100 could be had, every `gap_seconds`."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    return Trace([bool(there) for there in recorded["data"]], recorded["metadata"]["gap_seconds"])


def bamboo_slots(path: Path) -> list[Trace]:
    """Nodes that came and went, as slots: who comes takes the first that is free.

    A slot is what one request for a machine sees: it waits, has a node, loses it, waits again.
    """
    events = [line.split(",") for line in path.read_text(encoding="utf-8").split()]
    length = int(int(events[-1][0]) / 1000 // STEP_S)
    slots: list[list[bool]] = []
    holders: list[str | None] = []
    since: dict[str, float] = {}
    for at_ms, kind, node in events:
        at = int(at_ms) / 1000 / STEP_S
        if kind == "add":
            if None not in holders:
                holders.append(None)
                slots.append([False] * length)
            holders[holders.index(None)] = node
            since[node] = at
        else:
            _fill(slots[holders.index(node)], since.pop(node), at)
            holders[holders.index(node)] = None
    for node, began in since.items():
        _fill(slots[holders.index(node)], began, float(length))
    return [Trace(slot, STEP_S) for slot in slots]


def _fill(slot: list[bool], began: float, ended: float) -> None:
    """Only whole steps count."""
    for step in range(-int(-began // 1), int(ended)):
        slot[step] = True


def bamboo_counts(path: Path) -> list[Trace]:
    """How many of 64 nodes there were: slot k has one while there are at least k.

    The upper half is studied: the lower half of the slots was nearly always taken.
    """
    rows = [line.split(", ") for line in path.read_text(encoding="utf-8").splitlines() if line]
    times = [datetime.fromisoformat(f"{day} {hour}") for day, hour, _ in rows]
    counts = [int(count) for *_, count in rows]
    elapsed = [(time - times[0]).total_seconds() for time in times]
    length = int(elapsed[-1] // STEP_S)
    least = [min(_during(elapsed, counts, step)) for step in range(length)]
    return [Trace([there >= slot for there in least], STEP_S) for slot in range(33, 65)]


def _during(elapsed: list[float], counts: list[int], step: int) -> list[int]:
    """The counts that held at some time of a step."""
    begin, end = step * STEP_S, (step + 1) * STEP_S
    before = max(i for i, at in enumerate(elapsed) if at <= begin)
    return [c for i, c in enumerate(counts) if i == before or begin < elapsed[i] < end]
