"""AWS's own SageMaker SDK and command line, unchanged, see our job as they see theirs."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.images import ACCOUNTS, REPOSITORY, TAG
from kwanzaa_compute_sagemaker.simulated.account import KEY_ID, REGION, SECRET_KEY
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

FOLDER = Path(__file__).parent / "witness"
SDK = "sagemaker-core==2.27.0"
CLI = "awscli==1.46.3"
ENV = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
    "PATH": os.environ["PATH"],
}


def ran(words: list[Any], home: Path) -> Any:
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**ENV, "HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.mark.slow
def test_the_sagemaker_sdk_gets_refreshes_stops_and_waits(
    witness: Callable[..., Path],
    simulator: SageMakerSimulator,
    driver: SageMakerDriver,
    harness: Harness,
    spot: Offer,
    tmp_path: Path,
) -> None:
    python = witness(SDK)
    job = harness.job("kwz-me-w1-1", 600)
    driver.launch(job, spot)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    said = ran([python, FOLDER / "sdk.py", simulator.endpoint, job.name, "stop"], tmp_path)
    assert said == {
        "got": [job.name, "InProgress", "Training"],
        "spot": True,
        "type": "ml.g4dn.xlarge",
        "limits": [3600, 7200],
        "ended": ["Stopped", "Stopped"],
    }
    assert driver.inspect(job.name).phase is Phase.GONE


def test_the_command_line_describes_and_stops_it(
    witness: Callable[..., Path],
    simulator: SageMakerSimulator,
    driver: SageMakerDriver,
    harness: Harness,
    on_demand: Offer,
    tmp_path: Path,
) -> None:
    aws = [witness(CLI), "-m", "awscli", "--endpoint-url", simulator.endpoint, "--output", "json"]
    job = harness.job("kwz-me-w2-1", 600)
    driver.launch(job, on_demand)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    named = ["--training-job-name", job.name]
    shown = ran([*aws, "sagemaker", "describe-training-job", *named], tmp_path)
    assert (shown["TrainingJobStatus"], shown["SecondaryStatus"]) == ("InProgress", "Training")
    assert shown["TrainingJobArn"].endswith(f":training-job/{job.name}")
    ran([*aws, "sagemaker", "stop-training-job", *named], tmp_path)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.GONE, "it has stopped")


def test_aws_own_table_has_our_images(witness: Callable[..., Path]) -> None:
    """The account in each region, and that there is such a PyTorch with such a Python."""
    python = witness(SDK)
    (table,) = python.parents[1].glob(
        "lib/python*/site-packages/sagemaker/core/image_uri_config/pytorch.json"
    )
    version, kind, interpreter = TAG.split("-")
    row = json.loads(table.read_text())["training"]["versions"][version]
    assert (kind, row["repository"]) == ("gpu", REPOSITORY)
    assert interpreter in row["py_versions"]
    known = row["registries"]
    assert {r: a for r, a in ACCOUNTS.items() if known.get(r) != a} == {}
