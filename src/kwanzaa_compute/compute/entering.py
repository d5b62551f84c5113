"""A plan as the ledger's row of a new run."""

import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.compute.planning import Planned
from kwanzaa_compute.compute.prospects import prospects_of
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.records import RunRecord, RunState, Wish

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute


def new_record(compute: "Compute", planned: Planned, candidates: Sequence[Candidate]) -> RunRecord:
    """The row of a run that this plan would start: RUNNING, launched nowhere yet."""
    config, deadline_h = planned.loaded.config, planned.deadline_hours
    now = compute.clock.now()
    run_id = new_run_id(config.run.name)
    root = compute.store_root(config.compute.store)
    return RunRecord(
        id=run_id,
        name=config.run.name,
        owner=compute.owner,
        store_url=f"{root}/runs/{run_id}",
        state=RunState.RUNNING,
        wish=Wish.RUN,
        created_at=now,
        config=config.to_json().decode(),
        candidates=dump_prospects(prospects_of(planned.plan, candidates)),
        max_usd=planned.max_usd,
        max_hours=planned.max_hours,
        output_dir=str(Path(config.output_dir).expanduser().absolute()),
        estimate_usd=candidates[0].usd.expected,
        deadline_at=None if deadline_h is None else now + deadline_h * 3600,
    )


def new_run_id(name: str) -> str:
    """A run's id: a few words of its name, and six letters of chance."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:24].strip("-")
    return f"{words or 'run'}-{secrets.token_hex(3)}"
