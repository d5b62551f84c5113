"""Jobs pass the suite that every driver passes, over the real client and real HTTP."""

from collections.abc import Callable

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute_huggingface import kwanzaa_providers
from kwanzaa_compute_huggingface.jobs import JobsDriver
from kwanzaa_compute_huggingface.simulator import HubSimulator


class TestJobs(DriverConformance):
    @pytest.fixture
    def harness(
        self,
        hub: HubSimulator,
        context: DriverContext,
        working: Callable[[str, float], Job],
        ending: Callable[[str, int], Job],
    ) -> Harness:
        info = next(info for info in kwanzaa_providers() if info.name == "hf-jobs")
        return Harness(
            info=hub.adapt(info),
            driver=JobsDriver(context),
            clock=Clock(),
            job=working,
            exiting=ending,
            preempt=hub.cloud.preempt,
        )
