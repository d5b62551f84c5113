"""A second opinion on the simulator: Prism stands between driver and simulator, and minds both."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase
from kwanzaa_compute.drivers.http import HttpClient, StatusError, bearer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.simulator import RunPodSimulator

FILE = "runpod-rest-v2.json"
VIOLATIONS = "https://stoplight.io/prism/errors#"
"""Prism's own refusals bear this; a refusal of the simulator's passes through as it is."""


@pytest.mark.slow
def test_prism_finds_nothing_wrong_either(
    api_descriptions: Path,
    simulator: RunPodSimulator,
    harness: Harness,
    tmp_path: Path,
    prism: Callable[[Path, str], AbstractContextManager[str]],
) -> None:
    simulator.server.keeps_alive = False  # Prism's own client would lose such connections
    with prism(api_descriptions / FILE, simulator.endpoint) as api:
        key = bearer(simulator.account.key, "")
        with HttpClient(api, authorization=key) as client, pytest.raises(StatusError) as caught:
            client.call("POST", "/v2/pods", body={"name": "", "gpu": {"id": 7}})
        assert VIOLATIONS in str(caught.value.json())
        environment = {**simulator.environment, "KWANZAA_HOME": str(tmp_path / "home")}
        driver = RunPodDriver(DriverContext(environment, Clock(), api))
        machine_id = driver.launch(harness.job("kwz-me-p1-1", 600), next(iter(driver.offers())))
        harness.until(lambda: driver.inspect(machine_id).phase is Phase.RUNNING, "it runs")
        assert [seen.name for seen in driver.fleet()] == ["kwz-me-p1-1"]
        driver.terminate(machine_id)
        assert driver.inspect(machine_id).phase is Phase.GONE
        driver.terminate(machine_id)
    assert simulator.cloud.billing == []
