"""What a job asks for, what its machine gets, what Describe shows to others, and what stays."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Job, Phase
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.jobs import LOADER, boot_text
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.images import ACCOUNTS, image_for
from kwanzaa_compute_sagemaker.request import HOME, LAUNCHER, request_of
from kwanzaa_compute_sagemaker.settings import IMAGE
from kwanzaa_compute_sagemaker.simulated.account import ROLE
from kwanzaa_compute_sagemaker.simulated.model import faults_of_answer, faults_of_request
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

Jobs = Callable[..., Job]
SHOW = """
import json, os, signal, sys, time
seen = {"env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:], "pid": os.getpid()}
open(sys.argv[1], "w").write(json.dumps(seen))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(600)
"""


def described(driver: SageMakerDriver, name: str) -> dict[str, Any]:
    job = driver._described(name)
    assert job is not None
    return job


def test_the_machine_gets_the_command_its_variables_and_its_secrets_and_describe_shows_none(
    simulator: SageMakerSimulator,
    driver: SageMakerDriver,
    harness: Harness,
    job_of: Jobs,
    spot: Offer,
    tmp_path: Path,
) -> None:
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
    assert seen["env"]["TRAINING_JOB_NAME"] == job.name
    assert seen["cwd"].endswith(HOME)
    home = Path(seen["cwd"].removesuffix(HOME))
    config = json.loads((home / "opt/ml/input/config/resourceconfig.json").read_text())
    assert config["current_instance_type"] == "ml.g4dn.xlarge"
    shown = json.dumps(described(driver, job.name), default=str)
    for hidden in ("hunter2", boot_text()[:40], "x" * 100, "HF_TOKEN"):
        assert hidden not in shown
    for request, _ in simulator.server.exchanges:
        assert b"hunter2" not in request.body
    harness.end(job.name)


def test_the_parcel_is_encrypted_where_it_lies_and_goes_with_the_job(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, on_demand: Offer
) -> None:
    job = harness.job("kwz-me-l2-1", 600)
    driver.launch(job, on_demand)
    key = f"runs/r1/machines/{job.name}/job.json"
    head = simulator._inside.call("s3", "head_object", Bucket=simulator.bucket, Key=key)
    assert head["ServerSideEncryption"] == "AES256"
    harness.end(job.name)
    listed = simulator._inside.call("s3", "list_objects_v2", Bucket=simulator.bucket)
    assert [item["Key"] for item in listed.get("Contents", [])] == []


def test_a_stopped_command_gets_sigterm_and_may_end_by_itself(
    driver: SageMakerDriver, harness: Harness, job_of: Jobs, on_demand: Offer, tmp_path: Path
) -> None:
    job = job_of("kwz-me-l3-1", sys.executable, "-c", SHOW, str(tmp_path / "seen"), "")
    driver.launch(job, on_demand)
    harness.until(lambda: list(driver.logs(job.name)) == ["ready"], "it is ready")
    driver.terminate(job.name)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.GONE, "it has ended")
    assert described(driver, job.name)["TrainingJobStatus"] == "Stopped"


def test_spot_is_interrupted_and_sagemaker_starts_it_again_with_its_parcel(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, spot: Offer
) -> None:
    """Even where no watcher looks: the limits of the job hold all the same."""
    simulator.jobs._restart_s = 0.3
    job = harness.job("kwz-me-l4-1", 600)
    driver.launch(job, spot)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    simulator.cloud.preempt(job.name)
    seen = harness.sighting(job.name)
    assert seen is not None
    assert seen.phase is Phase.PREEMPTED
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs again")
    assert len(simulator.cloud.sim.machines) == 2
    harness.end(job.name)
    assert simulator.cloud.billing == []


def test_the_limits_are_part_of_every_job(job_of: Jobs, spot: Offer, on_demand: Offer) -> None:
    job = job_of("kwz-me-l5-1", "python3", "-c", LOADER, max_hours=1.5)
    words = {"role": ROLE, "image": image_for("us-east-1"), "kms_key": ""}
    both = [request_of(job, offer, **words) for offer in (on_demand, spot)]
    assert [body["StoppingCondition"] for body in both] == [
        {"MaxRuntimeInSeconds": 5400},
        {"MaxRuntimeInSeconds": 5400, "MaxWaitTimeInSeconds": 9000},
    ]
    for body in both:
        assert faults_of_request("sagemaker", "CreateTrainingJob", body) == []
        # Nothing that keeps a machine, uploads checkpoints, or tries again on its own.
        assert "KeepAlivePeriodInSeconds" not in body["ResourceConfig"]
        assert {"CheckpointConfig", "RetryStrategy", "Environment"}.isdisjoint(body)


def test_the_launcher_fits_into_one_argument() -> None:
    assert len(LAUNCHER) <= 256


def test_an_image_of_the_users_own_is_used(
    driver_of: Callable[..., SageMakerDriver],
    simulator: SageMakerSimulator,
    job_of: Jobs,
    on_demand: Offer,
) -> None:
    mine = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    driver = driver_of(simulator, **{IMAGE: mine})
    driver.launch(job_of("kwz-me-l6-1", "sleep", "600"), on_demand)
    assert described(driver, "kwz-me-l6-1")["AlgorithmSpecification"]["TrainingImage"] == mine


def test_every_image_is_in_its_own_region() -> None:
    for region in ACCOUNTS:
        image = image_for(region)
        assert f".{region}." in image
        assert image.split(".", maxsplit=1)[0].isdigit()


def test_every_request_and_answer_is_as_botocores_model_says(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, spot: Offer
) -> None:
    job = harness.job("kwz-me-l7-1", 600)
    driver.launch(job, spot)
    harness.until(lambda: bool(list(driver.logs(job.name))), "it has printed something")
    list(driver.fleet())
    harness.end(job.name)
    driver.inspect(job.name)
    services = {"SageMaker": "sagemaker", "AWSPriceListService": "pricing", "Logs_20140328": "logs"}
    checked = set()
    for request, reply in simulator.server.exchanges:
        prefix, _, operation = request.headers.get("x-amz-target", "").partition(".")
        if not prefix or reply.status != 200:
            continue
        assert isinstance(reply.body, bytes)
        checked.add(operation)
        name = services[prefix]
        assert faults_of_request(name, operation, json.loads(request.body)) == []
        assert faults_of_answer(name, operation, json.loads(reply.body)) == []
    assert {"CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs"} <= checked
    assert {"StopTrainingJob", "GetProducts", "GetLogEvents"} <= checked


def test_a_long_list_is_read_to_its_end(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, on_demand: Offer
) -> None:
    simulator.account.page_size = 1
    for number in range(3):
        driver.launch(harness.job(f"kwz-me-l8-{number}", 600), on_demand)
    assert len(list(driver.fleet())) == 3
    assert list(driver.offers())


@pytest.mark.parametrize("name", ["", "kwz", "kwz-é", "kwz-" + "x" * 60, "other-1", "kwz-a b"])
def test_a_name_that_cannot_be_a_jobs_is_refused(
    driver: SageMakerDriver, job_of: Jobs, on_demand: Offer, name: str
) -> None:
    with pytest.raises(Exception, match="cannot be a training job's name"):
        driver.launch(job_of(name, "true"), on_demand)
