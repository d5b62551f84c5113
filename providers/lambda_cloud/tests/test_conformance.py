"""The driver against the suite that every driver passes."""

from dataclasses import replace

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_lambda_cloud import kwanzaa_providers
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator


@pytest.mark.usefixtures("described")
class TestLambda(DriverConformance):
    @pytest.fixture
    def harness(
        self, simulator: LambdaSimulator, driver: LambdaDriver, working: tuple[str, ...]
    ) -> Harness:
        (info,) = kwanzaa_providers()

        def job(name: str, seconds: float) -> Job:
            return replace(sample_job(name=name), argv=(*working[:-1], str(seconds)))

        return Harness(
            info=simulator.adapt(info),
            driver=driver,
            clock=Clock(),
            job=job,
            exiting=None,  # Lambda knows nothing of what a machine runs
            preempt=simulator.cloud.preempt,
        )
