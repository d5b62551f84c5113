"""What a job asks for, what its machine gets, what others see of it, and what stays."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Job, Phase
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.jobs import boot_text
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_azureml.clusters import cluster_name
from kwanzaa_compute_azureml.driver import AzureMLDriver
from kwanzaa_compute_azureml.settings import COMPUTE, IMAGE
from kwanzaa_compute_azureml.simulator import AzureMLSimulator

Jobs = Callable[..., Job]
Drivers = Callable[..., AzureMLDriver]
SHOW = """
import json, os, signal, sys, time
seen = {"env": dict(os.environ), "argv": sys.argv[1:]}
open(sys.argv[1], "w").write(json.dumps(seen))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(600)
"""


def sent(simulator: AzureMLSimulator, kind: str) -> list[dict[str, Any]]:
    """The bodies of all requests that made something."""
    return [
        request.json()["properties"]
        for request, _ in simulator.server.exchanges
        if request.method == "PUT" and f"/{kind}/" in request.path
    ]


def test_the_machine_gets_command_variables_and_secrets_and_nobody_else_sees_them(
    simulator: AzureMLSimulator,
    driver: AzureMLDriver,
    harness: Harness,
    job_of: Jobs,
    spot: Offer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "of-somebody-else")
    out = tmp_path / "seen.json"
    odd = 'it\'s "quoted" $HOME\n2nd'
    job = job_of(
        "kwz-me-l1-1",
        sys.executable, "-c", SHOW, str(out), odd,
        env={"KWANZAA_BOOT": boot_text(), "PLAIN": "x" * 3000},
        secrets={"HF_TOKEN": Secret("hunter2")},
    )  # fmt: skip
    driver.launch(job, spot)
    harness.until(lambda: list(driver.logs(job.name)) == ["ready"], "it is ready")
    seen = json.loads(out.read_text())
    assert seen["argv"][1] == odd
    assert seen["env"]["HF_TOKEN"] == "hunter2"
    assert seen["env"]["KWANZAA_BOOT"] == boot_text()
    assert seen["env"]["AZUREML_RUN_ID"] == job.name
    # What the API shows, and what was ever told to it.
    told = [request.body for request, _ in simulator.server.exchanges]
    told += [json.dumps(reply.body).encode() for _, reply in simulator.server.exchanges
             if isinstance(reply.body, dict)]  # fmt: skip
    for hidden in (b"hunter2", boot_text()[:40].encode(), b"x" * 100, b"HF_TOKEN"):
        assert not [text for text in told if hidden in text]
    (asked,) = sent(simulator, "jobs")
    assert asked["queueSettings"] == {"jobTier": "Spot"}
    assert asked["resources"]["instanceType"] == spot.id.removesuffix("-spot")
    assert asked["limits"]["timeout"] == "PT1H"
    # Of the folder that we were started in nothing is told, though it is a repository of git's.
    assert asked["properties"] == {"azureml.git.dirty": "unknown"}
    # Nor does the SDK leave its own in this process, or believe what was there.
    assert os.environ["AZUREML_CURRENT_CLOUD"] == "of-somebody-else"
    # The parcel goes with its job, and a command that is told to end may end by itself.
    store = simulator.store()
    assert [item.path for item in store.list()] == [f"r1/machines/{job.name}/job.json"]
    driver.terminate(job.name)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.GONE, "it has ended")
    assert store.list() == []
    assert simulator.jobs.by_name[job.name].status == "Canceled"


def test_a_put_of_the_same_name_makes_no_second_job(
    simulator: AzureMLSimulator,
    driver: AzureMLDriver,
    driver_of: Drivers,
    harness: Harness,
    on_demand: Offer,
    job_of: Jobs,
) -> None:
    mine = driver_of(simulator, **{IMAGE: "mine.azurecr.io/torch:1"})
    job = harness.job("kwz-me-l2-1", 600)
    assert mine.launch(job, on_demand) == driver.launch(job, on_demand)
    assert len(simulator.cloud.sim.machines) == 1
    assert sent(simulator, "environments")[0]["image"] == "mine.azurecr.io/torch:1"
    assert sent(simulator, "jobs")[0]["queueSettings"] == {"jobTier": "Standard"}
    other = job_of(job.name, "true", store_url=f"{simulator.store_url}/other")
    with pytest.raises(Exception, match="exists already"):
        driver.launch(other, on_demand)
    harness.end(job.name)


def test_a_cluster_is_made_for_its_job_and_goes_with_it(
    simulator: AzureMLSimulator, driver_of: Drivers, harness: Harness
) -> None:
    """Also where the job was never made, and where another process ends it."""
    driver = driver_of(simulator, **{COMPUTE: "cluster"})
    harness.driver = driver
    spot = next(offer for offer in driver.offers() if offer.spot)
    job = harness.job("kwz-me-l3-1", 600)
    driver.launch(job, spot)
    wanted = sent(simulator, "computes")[0]["properties"]
    assert wanted["vmPriority"] == "LowPriority"
    assert wanted["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 1,
        "nodeIdleTimeBeforeScaleDown": "PT2M",
    }
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    simulator.cloud.preempt(job.name)
    seen = harness.sighting(job.name)
    assert seen is not None  # its job is over, its cluster is not
    assert seen.phase is Phase.STOPPING
    other = driver_of(simulator)
    other.terminate(job.name)
    harness.until(lambda: list(other.fleet()) == [], "its cluster is gone")
    assert simulator.jobs.clusters == {}
    assert simulator.cloud.billing == []


def test_a_cluster_says_that_its_machine_was_taken_back_before_its_job_does(
    simulator: AzureMLSimulator, driver_of: Drivers, harness: Harness
) -> None:
    simulator.jobs.notices_s = 600.0
    driver = harness.driver = driver_of(simulator, **{COMPUTE: "cluster"})
    job = harness.job("kwz-me-l7-1", 600)
    driver.launch(job, next(offer for offer in driver.offers() if offer.spot))
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    simulator.cloud.preempt(job.name)
    assert simulator.jobs.by_name[job.name].status == "Running"
    assert driver.inspect(job.name).phase is Phase.PREEMPTED
    harness.end(job.name)


def test_a_cluster_whose_job_was_refused_is_taken_away(
    simulator: AzureMLSimulator, driver_of: Drivers, harness: Harness
) -> None:
    driver = driver_of(simulator, **{COMPUTE: "cluster"})
    simulator.account.denied.add("PUT jobs")
    job = harness.job("kwz-me-l4-1", 600)
    with pytest.raises(Exception, match="authorization") as caught:
        driver.launch(job, next(iter(driver.offers())))
    assert driver.classify(caught.value).nothing_was_created  # type: ignore[arg-type]
    harness.until(lambda: list(driver.fleet()) == [], f"{cluster_name(job.name)} is gone")
    assert simulator.jobs.clusters == {}
    assert simulator.store().list() == []


def test_azure_may_queue_a_spot_job_again_and_that_is_a_lost_machine(
    simulator: AzureMLSimulator, driver: AzureMLDriver, harness: Harness, spot: Offer
) -> None:
    """With nobody watching it goes on by itself, within its time limit."""
    simulator.jobs.requeues = True
    job = harness.job("kwz-me-l5-1", 600)
    driver.launch(job, spot)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    simulator.cloud.preempt(job.name)
    seen = driver.inspect(job.name)
    assert seen.phase is Phase.PREEMPTED
    assert seen.may_bill
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs again")
    harness.end(job.name)
    assert simulator.cloud.billing == []


def test_a_long_list_is_read_to_its_end(
    simulator: AzureMLSimulator, driver: AzureMLDriver, harness: Harness, on_demand: Offer
) -> None:
    simulator.account.page_size = 1
    for number in range(3):
        driver.launch(harness.job(f"kwz-me-l6-{number}", 600), on_demand)
    assert len(list(driver.fleet())) == 3


@pytest.mark.parametrize("name", ["", "kwz", "kwz-é", "kwz-" + "x" * 60, "other-1", "kwz-a b"])
def test_a_name_that_cannot_be_a_jobs_is_refused(
    driver: AzureMLDriver, job_of: Jobs, on_demand: Offer, name: str
) -> None:
    with pytest.raises(Exception, match="cannot be a job's name"):
        driver.launch(job_of(name, "true"), on_demand)
