"""Logs of what still runs: the Hub holds their stream open, and the driver does not wait for it."""

import sys
from collections.abc import Callable

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Driver, DriverContext, Job, Phase
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_huggingface.jobs import JobsDriver
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.spaces import SpacesDriver

PATIENCE_S = 60.0
CHATTER = """
import sys, time
for number in range(6000):
    print("line", number, flush=True)
    time.sleep(0.1)
"""


@pytest.mark.parametrize("kind", [JobsDriver, SpacesDriver])
def test_a_stream_without_an_end_gives_what_has_come(
    hub: HubSimulator,
    context: DriverContext,
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[[DriverContext], Driver],
) -> None:
    monkeypatch.setattr("kwanzaa_compute_huggingface.hub.LOGS_S", 1.0)
    hub.holds_streams_s = 600.0
    driver = kind(context)
    job = sample_job(argv=(sys.executable, "-c", CHATTER))
    machine_id = driver.launch(job, next(iter(driver.offers())))
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while driver.inspect(machine_id).phase is not Phase.RUNNING:
        assert clock.monotonic() < last
        clock.sleep(0.05)
    lines: list[str] = []
    while "line 1" not in lines:
        assert clock.monotonic() < last, lines
        lines = list(driver.logs(machine_id))  # type: ignore[attr-defined]
    assert lines.index("line 0") < lines.index("line 1")


def test_a_listing_of_many_jobs_is_read_to_its_end(
    hub: HubSimulator, context: DriverContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub gives its jobs a page at a time; a machine on the last page bills as well."""
    monkeypatch.setattr("kwanzaa_compute_huggingface.simulator.jobs._PAGE", 2)
    hours = sample_job(argv=("sleep", "600"))
    driver = JobsDriver(context)
    offer = next(iter(driver.offers()))
    ids = {driver.launch(sample_job_named(hours, n), offer) for n in range(5)}
    assert {seen.machine_id for seen in driver.fleet()} == ids


def sample_job_named(job: Job, number: int) -> Job:
    return sample_job(argv=job.argv, name=f"kwz-me-page{number}-1")
