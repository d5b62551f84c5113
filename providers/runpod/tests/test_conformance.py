"""RunPod passes the suite that every driver passes, over real HTTP and real processes."""

import pytest

from kwanzaa_compute.testing.conformance import DriverConformance, Harness


class TestRunPod(DriverConformance):
    @pytest.fixture
    def harness(self, harness: Harness) -> Harness:
        return harness
