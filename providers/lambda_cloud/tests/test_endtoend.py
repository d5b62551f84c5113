"""A whole run on the simulated Lambda: trained, lost, resumed, brought home, ended, paid."""

import pytest

from kwanzaa_compute.testing.endtoend import DriverEndToEnd
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator


@pytest.mark.slow
@pytest.mark.usefixtures("described")
class TestLambdaEndToEnd(DriverEndToEnd):
    provider = "lambda"

    @pytest.fixture
    def simulator(self, simulator: LambdaSimulator) -> LambdaSimulator:
        return simulator
