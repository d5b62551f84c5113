"""Azure's own SDK, in a process where nothing is ours, sees our job as it sees its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.drivers.contract import Job, Phase
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_azureml.driver import AzureMLDriver
from kwanzaa_compute_azureml.simulated.account import CLIENT, SCOPE, SECRET, TENANT
from kwanzaa_compute_azureml.simulator import AzureMLSimulator

LOOKS = 2
"""After so many looks the log has been read once."""
SDK = Path(__file__).parent / "witness" / "sdk.py"
TALKS = """
import pathlib, sys, time
print("first words", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("last words", flush=True)
"""


def looks(simulator: AzureMLSimulator) -> int:
    """How often the run history was asked for the log's address."""
    return sum(q.path.endswith("/details") for q, _ in simulator.server.exchanges)


def started(simulator: AzureMLSimulator, job: Job, home: Path) -> "subprocess.Popen[str]":
    """The witness, who has been told whom to look at."""
    told = {
        "endpoint": simulator.endpoint,
        "storage": simulator.azurite.endpoint.rpartition("/")[0],
        "ca_file": str(simulator.azurite.authority.only),
        "principal": [TENANT, CLIENT, SECRET],
        "workspace": [SCOPE.subscription, SCOPE.group, SCOPE.workspace],
        "job": job.name,
        "folder": str(home / "downloaded"),
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        # Storage and logs are asked by other parts of the SDK, which take no option.
        "REQUESTS_CA_BUNDLE": str(told["ca_file"]),
        "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
        "AZUREML_RUN_POLLING_INTERVAL_MAX": "1",
    }
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, SDK], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    )
    assert process.stdin
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.slow
def test_the_sdk_gets_streams_lists_and_downloads_it(
    simulator: AzureMLSimulator,
    driver: AzureMLDriver,
    harness: Harness,
    job_of: Callable[..., Job],
    spot: Offer,
    tmp_path: Path,
) -> None:
    end = tmp_path / "end"
    job = job_of("kwz-me-w1-1", sys.executable, "-c", TALKS, str(end))
    driver.launch(job, spot)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    with started(simulator, job, tmp_path) as process:
        harness.until(
            lambda: process.poll() is not None or looks(simulator) > LOOKS, "it streams the log"
        )
        end.touch()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-3000:]
    printed, _, last = out.rpartition("\n")
    said = json.loads(last)
    assert said["got"] == [job.name, "Running", spot.id.removesuffix("-spot"), "spot"]
    assert said["limit"] == 3600
    assert said["listed"] == [job.name]
    assert said["ended"] == "Completed"
    assert said["files"]["std_log.txt"] == "first words\nlast words\n"
    assert "first words" in printed
