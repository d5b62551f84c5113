"""A plan as JSON and back: versioned, readable by people, and checked when it is read."""

import json
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.market.candidates import Candidate, Reason, Refusal
from kwanzaa_compute.market.costs import Cost, CostLine, Estimate
from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.offers import Availability, Offer, Precision, Requirements
from kwanzaa_compute.market.sizing import Sizing, SizingLine
from kwanzaa_compute.market.speed import Speed
from kwanzaa_compute.market.workload import Answers, Workload

if TYPE_CHECKING:
    from kwanzaa_compute.market.plan import Plan

SCHEMA = "kwanzaa-plan"
VERSION = 1

_MEND = "make the plan again: kwanzaa plan CONFIG --save FILE"


def plan_to_json(plan: "Plan") -> str:
    """The plan as JSON. Money is text, so that no reader makes it a float."""
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "made_at": plan.made_at,
        "requirements": _plain(plan.requirements),
        "workload": _plain(plan.workload),
        "sizing": _plain(plan.sizing),
        "candidates": [{**_plain(c), "why": c.why} for c in plan.candidates],
        "refused": [{**_plain(r), "reason": r.reason} for r in plan.refused],
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, Decimal as text, sets sorted."""
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def plan_from_json(text: str) -> "Plan":
    """A plan that was saved. Raises UsageError where it is none, or one of another version."""
    from kwanzaa_compute.market.plan import Plan

    try:
        raw = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not a saved plan: {error}", mend=_MEND) from None
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise UsageError("not a saved plan", mend=_MEND)
    if raw.get("version") != VERSION:
        raise UsageError(f"a plan of version {raw.get('version')}, not {VERSION}", mend=_MEND)
    try:
        return Plan(
            candidates=tuple(map(_candidate, raw["candidates"])),
            refused=tuple(map(_refusal, raw["refused"])),
            requirements=_requirements(raw["requirements"]),
            workload=_workload(raw["workload"]),
            sizing=Sizing(tuple(SizingLine(**line) for line in raw["sizing"]["lines"])),
            made_at=raw["made_at"],
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"a damaged plan: {type(error).__name__}: {error}", mend=_MEND) from None


def _candidate(raw: Mapping[str, Any]) -> Candidate:
    cost = {name: Decimal(amount) for name, amount in raw["usd"].items()}
    return Candidate(
        offer=_offer(raw["offer"]),
        hours=Estimate(**raw["hours"]),
        usd=Cost(**cost),
        billed_hours=raw["billed_hours"],
        lines=tuple(CostLine(**{**line, "usd": Decimal(line["usd"])}) for line in raw["lines"]),
        speed=Speed(**raw["speed"]),
        checkpoint_every_s=raw["checkpoint_every_s"],
        marks=tuple(raw["marks"]),
    )


def _refusal(raw: Mapping[str, Any]) -> Refusal:
    return Refusal(_offer(raw["offer"]), Reason(raw["code"]), tuple(raw["detail"]))


def _offer(raw: Mapping[str, Any]) -> Offer:
    gpu = {**raw["gpu"]}
    for name in ("aliases", "compute_capability"):
        gpu[name] = tuple(gpu[name])
    price = raw["usd_per_hour"]
    return Offer(
        **{
            **raw,
            "gpu": GPU(**gpu),
            "usd_per_hour": None if price is None else Decimal(price),
            "disk_usd_per_gib_hour": Decimal(raw["disk_usd_per_gib_hour"]),
            "availability": Availability(raw["availability"]),
        }
    )


def _workload(raw: Mapping[str, Any]) -> Workload:
    """The workload; a plan of an earlier version counted no answers."""
    return Workload(**{**raw, "answers": Answers(**raw.get("answers", {}))})


def _requirements(raw: Mapping[str, Any]) -> Requirements:
    cap = raw["max_usd"]
    return Requirements(
        **{
            **raw,
            "precision": Precision(raw["precision"]),
            "max_usd": None if cap is None else Decimal(cap),
            "features": frozenset(raw["features"]),
        }
    )
