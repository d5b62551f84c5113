"""What a job is asked for, and how long one that has ended is still spoken of."""

import time
from collections.abc import Callable

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.loopback.wire import Reply
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_huggingface.images import FOR_MOST
from kwanzaa_compute_huggingface.jobs import REMEMBERED_S, JobsDriver
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN

PATIENCE_S = 60.0
ODD = """
import time
for line in ('data: {"x"}', "\u2028 und ü", "", "===== end"):
    print(line, flush=True)
time.sleep(600)
"""


@pytest.fixture
def driver(context: DriverContext) -> JobsDriver:
    return JobsDriver(context)


def launched(driver: JobsDriver, job: Job) -> str:
    return driver.launch(job, next(iter(driver.offers())))


def until(driver: JobsDriver, machine_id: str, phase: Phase) -> None:
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while (seen := driver.inspect(machine_id)).phase is not phase:
        assert clock.monotonic() < last, f"it is {seen}, not {phase}"
        clock.sleep(0.05)


def test_a_job_is_asked_for_with_its_limit_its_name_and_no_second_try(
    hub: HubSimulator, driver: JobsDriver
) -> None:
    words = ("sh", "-c", """echo 'a "quoted" word'; $(rm -rf x)""")
    job = sample_job(argv=words, max_hours=2.5, env={"A": "1"}, secrets={"S": Secret("secret")})
    launched(driver, job)
    (body,) = [r.json() for r, _ in hub.server.exchanges if r.method == "POST"]
    assert body == {
        "command": list(words),
        "arguments": [],
        "environment": {"A": "1"},
        "secrets": {"S": "secret"},
        "flavor": "t4-small",
        "timeoutSeconds": 9000,
        "attempts": 1,
        "labels": {"name": "kwz-me-r1-1", "kwanzaa-compute": "yes"},
        "dockerImage": FOR_MOST,
    }


def test_every_call_names_the_namespace(hub: HubSimulator) -> None:
    """Without it, the client's listing asks at the wrong address with the wrong token."""
    driver = JobsDriver(DriverContext({"HF_TOKEN": TOKEN}, Clock(), hub.endpoint))
    machine_id = launched(driver, sample_job(argv=("sleep", "600")))
    assert [seen.machine_id for seen in driver.fleet()] == [machine_id]
    driver.terminate(machine_id)
    asked = [request.path for request, _ in hub.server.exchanges]
    assert asked.count("/api/whoami-v2") == 1


def test_a_job_that_ended_is_spoken_of_for_a_while_and_then_gone(
    hub: HubSimulator, driver: JobsDriver, ending: Callable[[str, int], Job]
) -> None:
    """The Hub lists it for ever; what costs nothing need not be proven absent for ever."""
    machine_id = launched(driver, ending("kwz-me-ended-1", 3))
    until(driver, machine_id, Phase.EXITED)
    assert list(driver.fleet()) == []
    assert hub.cloud.billing == []
    later = Clock(now=lambda: time.time() + REMEMBERED_S + 60)
    other = JobsDriver(DriverContext(hub.environment, later, hub.endpoint))
    assert other.inspect(machine_id).phase is Phase.GONE
    assert driver.inspect(machine_id).phase is Phase.EXITED


def test_a_job_that_has_ended_may_be_told_to_end(
    driver: JobsDriver, ending: Callable[[str, int], Job]
) -> None:
    """The Hub refuses to cancel it, and that is no trouble."""
    machine_id = launched(driver, ending("kwz-me-ended-2", 0))
    until(driver, machine_id, Phase.EXITED)
    driver.terminate(machine_id)
    assert driver.inspect(machine_id).phase is Phase.GONE


def test_a_refusal_to_cancel_what_runs_is_an_error(
    hub: HubSimulator, driver: JobsDriver, working: Callable[[str, float], Job]
) -> None:
    machine_id = launched(driver, working("kwz-me-stays-1", 600))
    until(driver, machine_id, Phase.RUNNING)
    hub.server.interrupt("POST", ".*/cancel", Reply(400, {"error": "not now"}))
    with pytest.raises(Exception, match="not now"):
        driver.terminate(machine_id)
    assert driver.inspect(machine_id).phase is Phase.RUNNING
    driver.terminate(machine_id)
    assert driver.inspect(machine_id).phase is Phase.GONE


def test_a_stage_that_nobody_knows_may_bill(driver: JobsDriver) -> None:
    assert driver._phase("x", "REHEATING", None) is Phase.RUNNING


def test_a_jobs_output_may_be_anything(hub: HubSimulator, driver: JobsDriver) -> None:
    machine_id = launched(driver, sample_job(argv=("python3", "-c", ODD)))
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while "===== end" not in (lines := list(driver.logs(machine_id))):
        assert clock.monotonic() < last, lines
        clock.sleep(0.05)
    assert 'data: {"x"}' in lines
