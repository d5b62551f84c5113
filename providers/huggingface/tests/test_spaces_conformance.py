"""Spaces pass the suite that every driver passes: each one is built, started and looked at."""

from collections.abc import Callable

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute_huggingface import kwanzaa_providers
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.spaces import SpacesDriver


class TestSpaces(DriverConformance):
    @pytest.fixture
    def harness(
        self,
        hub: HubSimulator,
        context: DriverContext,
        working: Callable[[str, float], Job],
        ending: Callable[[str, int], Job],
    ) -> Harness:
        info = next(info for info in kwanzaa_providers() if info.name == "hf-spaces")
        return Harness(
            info=hub.adapt(info),
            driver=SpacesDriver(context),
            clock=Clock(),
            job=working,
            exiting=ending,
            preempt=hub.cloud.preempt,
        )
