"""A whole run on a simulated RunPod."""

import pytest

from kwanzaa_compute.testing.endtoend import DriverEndToEnd
from kwanzaa_compute_runpod.simulator import RunPodSimulator


@pytest.mark.slow
class TestRunPodEndToEnd(DriverEndToEnd):
    provider = "runpod"

    @pytest.fixture
    def simulator(self, simulator: RunPodSimulator) -> RunPodSimulator:
        return simulator
