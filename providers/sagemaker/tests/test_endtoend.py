"""A whole run on a simulated SageMaker: checkpoints and adapter go through S3."""

import pytest

from kwanzaa_compute.testing.endtoend import DriverEndToEnd
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator


@pytest.mark.slow
class TestSageMakerEndToEnd(DriverEndToEnd):
    provider = "sagemaker"

    @pytest.fixture
    def simulator(self, simulator: SageMakerSimulator) -> SageMakerSimulator:
        return simulator
