"""A second opinion on the simulator: Prism stands between driver and simulator, and minds both."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase
from kwanzaa_compute.drivers.http import HttpClient, StatusError, bearer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.simulator import RunPodSimulator

FILE = "runpod-rest-v2.json"
PRISM = "@stoplight/prism-cli@5.16.0"
VIOLATIONS = "https://stoplight.io/prism/errors#"
"""Prism's own refusals bear this; a refusal of the simulator's passes through as it is."""


@pytest.mark.slow
def test_prism_finds_nothing_wrong_either(
    api_descriptions: Path,
    simulator: RunPodSimulator,
    harness: Harness,
    tmp_path: Path,
    witness_program: Callable[[], Path],
) -> None:
    with prism(witness_program(), api_descriptions / FILE, simulator.endpoint, tmp_path) as api:
        key = bearer(simulator.account.key, "")
        with HttpClient(api, authorization=key) as client, pytest.raises(StatusError) as caught:
            client.call("POST", "/v2/pods", body={"name": "", "gpu": {"id": 7}})
        assert VIOLATIONS in str(caught.value.json())
        driver = RunPodDriver(DriverContext(simulator.environment, Clock(), api))
        machine_id = driver.launch(harness.job("kwz-me-p1-1", 600), next(iter(driver.offers())))
        harness.until(lambda: driver.inspect(machine_id).phase is Phase.RUNNING, "it runs")
        assert [seen.name for seen in driver.fleet()] == ["kwz-me-p1-1"]
        driver.terminate(machine_id)
        assert driver.inspect(machine_id).phase is Phase.GONE
        driver.terminate(machine_id)
    assert simulator.cloud.billing == []


@pytest.fixture
def witness_program() -> Callable[[], Path]:
    """Prism's program, installed once beside the other witnesses."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node is not here: openapi-core's opinion has to do")

    def installed() -> Path:
        root = Path(__file__).parents[3]
        folder = root / ".venv" / "witnesses" / PRISM.rpartition("/")[2].replace("@", "-")
        program = folder / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
        if not program.exists():
            folder.mkdir(parents=True, exist_ok=True)
            words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PRISM]
            made = subprocess.run(
                [*words, "--prefix", str(folder)],
                capture_output=True,
                text=True,
                env={**os.environ, "SCARF_ANALYTICS": "false"},
                check=False,
            )
            if made.returncode:
                pytest.skip(f"npm cannot have {PRISM}: {made.stderr[-200:]}")
        return program

    return installed


@contextmanager
def prism(program: Path, description: Path, upstream: str, folder: Path) -> Iterator[str]:
    """Its address, while it stands before `upstream`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    words = ["proxy", str(description), upstream, "--errors", "--port", str(port)]
    with (folder / "prism.log").open("w") as log:
        child = subprocess.Popen(
            ["node", str(program), *words, "--host", "127.0.0.1"],
            stdout=log,
            stderr=log,
            env={**os.environ, "SCARF_ANALYTICS": "false"},
        )
    try:
        wait_for(port, folder / "prism.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


def wait_for(port: int, log: Path) -> None:
    clock = Clock()
    last = clock.monotonic() + 60
    while clock.monotonic() < last:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        clock.sleep(0.1)
    pytest.fail(f"prism does not start: {log.read_text()[-500:]}")
