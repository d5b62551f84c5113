"""RunPod's official SDK, unchanged, on our simulator: is it the RunPod that it knows?"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.simulated.account import CARDS
from kwanzaa_compute_runpod.simulator import RunPodSimulator

FOLDER = Path(__file__).parent / "witness"


@pytest.mark.slow
def test_the_official_sdk_lists_creates_stops_and_terminates(
    witness: Callable[..., Path], simulator: RunPodSimulator, driver: RunPodDriver
) -> None:
    """It builds its queries without escaping: a quote in an argument is its own syntax error."""
    python = witness("runpod==1.12.0", lock=FOLDER / "runpod-1.12.0.txt")
    ran = subprocess.run(
        [python, FOLDER / "sdk.py", simulator.endpoint, simulator.account.key],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"HOME": str(FOLDER / "nobody"), "PATH": "/usr/bin:/bin"},
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    machine_id = said.pop("made")
    host, port = said.pop("ssh")
    assert (host, 1024 < port <= 65535) == ("127.0.0.1", True)
    assert "Syntax Error" in said.pop("a quote that it does not escape")
    assert "Unauthorized" in said.pop("a wrong key")
    assert said == {
        "version": "1.12.0",
        "gpus": [card.id for card in CARDS],
        "gpu": 0.27,
        "pod": {
            "name": "witness",
            "desiredStatus": "RUNNING",
            "costPerHr": 0.27,
            "env": ["GREETING=hello"],
            "ports": "22/tcp",
        },
        "pods": ["witness"],
        "stopped": "EXITED",
        "left": [],
    }
    assert simulator.cloud.billing == []
    assert driver.inspect(machine_id).phase is Phase.GONE
