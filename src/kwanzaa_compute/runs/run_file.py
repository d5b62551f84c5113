"""`run.json` in the store: enough of a run to rebuild a lost ledger from. No secrets in it."""

import json
from collections.abc import Sequence

from kwanzaa_compute.runs.records import AttemptRecord, RunRecord


def run_json(run: RunRecord, attempts: Sequence[AttemptRecord]) -> bytes:
    """The run, its cap and its attempts, as the store keeps them."""
    return json.dumps(
        {
            "schema": 1,
            "id": run.id,
            "name": run.name,
            "owner": run.owner,
            "created_at": run.created_at,
            "max_usd": None if run.max_usd is None else str(run.max_usd),
            "max_hours": run.max_hours,
            "deadline_at": run.deadline_at,
            "output_dir": run.output_dir,
            "attempts": [
                {
                    "number": a.number,
                    "name": a.name,
                    "provider": a.provider,
                    "offer": a.offer_id,
                    "region": a.region,
                    "usd_per_hour": str(a.usd_per_hour),
                    "intended_at": a.intended_at,
                    "closed_at": a.closed_at,
                }
                for a in attempts
            ],
        },
        sort_keys=True,
    ).encode()
