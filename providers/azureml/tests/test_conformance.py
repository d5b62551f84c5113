"""Azure ML passes the suite that every driver passes, through its SDK and over real HTTPS."""

import pytest

from kwanzaa_compute.testing.conformance import DriverConformance, Harness


class TestAzureML(DriverConformance):
    @pytest.fixture
    def harness(self, harness: Harness) -> Harness:
        return harness
