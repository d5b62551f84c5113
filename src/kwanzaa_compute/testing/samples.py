"""Ready-made offers, runs and attempts, so that a test names only what it is about."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Prospect,
    RunRecord,
    RunState,
    Wish,
)

SAMPLE_GPU = GPU("L4", ("nvidia-l4",), 22.0, (8, 9), 121.0, 121.0, 0.3, source="sample")
STORE_URL = "memory://run"


def sample_offer(**changes: Any) -> Offer:
    """An on-demand offer of the provider `fake` at one dollar an hour, billed by the second."""
    offer = Offer(
        provider="fake",
        id="l4",
        gpu=SAMPLE_GPU,
        usd_per_hour=Decimal("1.00"),
        region="north",
        availability=Availability.AVAILABLE,
        source="sample",
        as_of="2026-01-01T00:00:00Z",
    )
    return replace(offer, **changes)


def sample_run(*offers: Offer, **changes: Any) -> RunRecord:
    """A running run of ten hours and ten dollars at most, with these candidates (default: one)."""
    run = RunRecord(
        id="r1",
        name="sample",
        owner="me",
        store_url=STORE_URL,
        state=RunState.RUNNING,
        wish=Wish.RUN,
        created_at=0.0,
        config="{}",
        candidates=dump_prospects([Prospect(offer) for offer in offers or [sample_offer()]]),
        max_usd=Decimal(10),
        max_hours=10.0,
        output_dir="adapter",
    )
    return replace(run, **changes)


def sample_attempt(**changes: Any) -> AttemptRecord:
    """The first attempt of `sample_run`, live on machine `m-1` since time zero."""
    attempt = AttemptRecord(
        run_id="r1",
        number=1,
        name="kwz-me-r1-1",
        provider="fake",
        offer_id="l4",
        region="north",
        gpu="L4",
        spot=False,
        usd_per_hour=Decimal("1.00"),
        billing_step_s=1,
        minimum_s=0,
        max_hours=9.0,
        state=AttemptState.LIVE,
        intended_at=0.0,
        machine_id="m-1",
    )
    return replace(attempt, **changes)


def sample_job(**changes: Any) -> Job:
    """A job that `FakeCloud` and `LocalDriver` both accept."""
    job = Job(
        name="kwz-me-r1-1",
        argv=("python", "-m", "kwanzaa_trainer", "run", STORE_URL),
        store_url=STORE_URL,
        max_hours=1.0,
    )
    return replace(job, **changes)
