"""SageMaker passes the suite that every driver passes, through boto3 and over real HTTP."""

import pytest

from kwanzaa_compute.testing.conformance import DriverConformance, Harness


class TestSageMaker(DriverConformance):
    @pytest.fixture
    def harness(self, harness: Harness) -> Harness:
        return harness
