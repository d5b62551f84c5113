"""What `--json` writes: plain dictionaries, described in docs/json.md. Keys are never renamed."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kwanzaa_compute.cli.look import Look, where
from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute import Planned, Receipt, Run
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.market.candidates import Candidate, Refusal
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.records import AttemptRecord, Event, RunRecord


def look_document(look: Look) -> dict[str, Any]:
    """One look at a run."""
    known = asdict(look)
    known["run"] = known.pop("run_id")
    for name in ("events", "estimate_usd", "where", "ending_at"):
        known.pop(name)
    return known


def run_document(record: RunRecord) -> dict[str, Any]:
    """A run as the ledger has it, without its config and candidates."""
    return {
        "run": record.id,
        "name": record.name,
        "state": record.state,
        "wish": record.wish,
        "reason": record.reason,
        "created_at": iso(record.created_at),
        "ended_at": None if record.ended_at is None else iso(record.ended_at),
        "store_url": record.store_url,
        "output_dir": record.output_dir,
        "max_usd": record.max_usd,
        "max_hours": record.max_hours,
        "deadline_at": None if record.deadline_at is None else iso(record.deadline_at),
        "estimate_usd": record.estimate_usd,
    }


def attempt_document(attempt: AttemptRecord) -> dict[str, Any]:
    """One attempt as the ledger has it."""
    return {
        "attempt": attempt.number,
        "name": attempt.name,
        "machine_id": attempt.machine_id,
        "provider": attempt.provider,
        "gpu": attempt.gpu,
        "region": attempt.region,
        "spot": attempt.spot,
        "usd_per_hour": attempt.usd_per_hour,
        "state": attempt.state,
        "phase": attempt.phase,
        "step": attempt.step,
        "checkpoint": attempt.checkpoint,
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "intended_at": iso(attempt.intended_at),
        "closed_at": None if attempt.closed_at is None else iso(attempt.closed_at),
    }


def event_document(event: Event) -> dict[str, Any]:
    """One line of a run's history."""
    return {"at": iso(event.at), "kind": event.kind, "message": event.message}


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """What a run has cost."""
    document = receipt.to_dict()
    document["run"] = document.pop("run_id")
    return document


def end_document(run: Run, receipt: Receipt, adapter: str | None) -> dict[str, Any]:
    """The last word on a run: its receipt, the trainer's summary, and where the adapter lies."""
    done = run.done
    return {
        "run": run.id,
        "state": receipt.state,
        "reason": receipt.reason,
        "exit": receipt.state.exit_code,
        "adapter": adapter,
        "summary": done.summary if done else None,
        "receipt": receipt_document(receipt),
    }


def offer_document(offer: Offer) -> dict[str, Any]:
    """What is for sale."""
    return {**asdict(offer), "gpu": offer.gpu.name, "vram_gib": offer.gpu.vram_gib}


def candidate_document(candidate: Candidate) -> dict[str, Any]:
    """An offer that the run fits on."""
    return {
        "offer": offer_document(candidate.offer),
        "hours": asdict(candidate.hours),
        "usd": asdict(candidate.usd),
        "billed_hours": candidate.billed_hours,
        "lines": [asdict(line) for line in candidate.lines],
        "why": candidate.why,
        "marks": list(candidate.marks),
    }


def refusal_document(refusal: Refusal) -> dict[str, Any]:
    """An offer that is out, and why."""
    return {
        "offer": offer_document(refusal.offer),
        "code": refusal.code,
        "reason": refusal.reason,
    }


def plan_document(planned: Planned) -> dict[str, Any]:
    """A plan: candidates in order, refusals, what it was made from and what is not applied."""
    plan = planned.plan
    return {
        "config": str(planned.loaded.path),
        "name": planned.loaded.config.run.name,
        "max_usd": planned.max_usd,
        "max_hours": planned.max_hours,
        "data": asdict(planned.size),
        "workload": asdict(plan.workload),
        "vram_gib": plan.requirements.vram_gib,
        "disk_gib": plan.requirements.disk_gib,
        "candidates": [candidate_document(c) for c in plan.candidates],
        "refused": [refusal_document(r) for r in plan.refused],
        "notes": [asdict(note) for note in planned.notes],
        "warnings": dict(planned.warnings),
    }


def provider_document(info: ProviderInfo, environment: Mapping[str, str]) -> dict[str, Any]:
    """An installed provider, and which of its variables are set (never their values)."""
    return {
        "provider": info.name,
        "title": info.title,
        "installed": True,
        "features": sorted(info.features),
        "deadline": info.deadline,
        "store_schemes": list(info.store_schemes),
        "environment": {name: bool(environment.get(name)) for name in info.environment},
        "console_url": info.console_url,
        "simulated": info.simulated,
    }


def where_document(attempt: AttemptRecord | None) -> str | None:
    """Provider, GPU and region in words; None before the first attempt."""
    return None if attempt is None else where(attempt)
