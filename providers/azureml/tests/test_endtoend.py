"""A whole run on a simulated Azure ML: checkpoints and adapter go through blob storage."""

import pytest

from kwanzaa_compute.testing.endtoend import DriverEndToEnd
from kwanzaa_compute_azureml.simulator import AzureMLSimulator


@pytest.mark.slow
class TestAzureMLEndToEnd(DriverEndToEnd):
    provider = "azureml"

    @pytest.fixture
    def simulator(self, simulator: AzureMLSimulator) -> AzureMLSimulator:
        return simulator
