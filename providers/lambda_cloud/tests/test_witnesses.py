"""Clients that we did not write, unchanged, against our simulator: is it the Lambda they know?"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator
from kwanzaa_compute_lambda_cloud.wares import WARES

pytestmark = pytest.mark.usefixtures("described")
SCRIPTS = Path(__file__).parent / "witnesses"
USER_DATA = """\
#cloud-config
write_files:
- path: /opt/note.txt
  permissions: '0600'
  content: from the witness
runcmd:
- [sleep, '600']
"""


def asked(python: Path, script: str, *words: str) -> dict[str, Any]:
    ran = subprocess.run(
        [python, SCRIPTS / script, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


@pytest.mark.slow
def test_the_client_of_today_lists_creates_and_terminates(
    witness: Callable[..., Path], simulator: LambdaSimulator
) -> None:
    python = witness("lambda-ai-cloud-api-client==2.4.1")
    key = simulator.environment["LAMBDA_API_KEY"]
    said = asked(python, "client_of_today.py", simulator.endpoint, key, USER_DATA)
    (machine,) = simulator.cloud.sim.machines.values()
    assert said == {
        "types": sorted(ware.name for ware in WARES),
        "launched": [machine.id],
        "listed": ["witness"],
        "one": machine.id,
        "terminated": ["terminating"],
    }
    clock = Clock()
    deadline = clock.monotonic() + 20
    while simulator.cloud.billing:
        assert clock.monotonic() < deadline
        clock.sleep(0.02)


@pytest.mark.slow
def test_the_client_of_2023_does_all_but_read_the_words_that_came_later(
    witness: Callable[..., Path], simulator: LambdaSimulator
) -> None:
    """It ends a machine, and then cannot read that the machine is `terminating`."""
    python = witness("lambda-cloud-client==1.0.0")
    key = simulator.environment["LAMBDA_API_KEY"]
    said = asked(python, "client_of_2023.py", simulator.endpoint, key)
    (machine,) = simulator.cloud.sim.machines.values()
    assert said == {
        "types": sorted(ware.name for ware in WARES),
        "key": "added",
        "launched": [machine.id],
        "listed": ["witness"],
        "one": machine.id,
        "terminated": "cannot parse: ValidationError",
        "status terminating": "cannot parse: ValidationError",
        "status preempted": "cannot parse: ValidationError",
    }
    assert not machine.bills
