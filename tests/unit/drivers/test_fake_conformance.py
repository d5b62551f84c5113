"""`FakeCloud` passes the same suite as every driver, in virtual time."""

import pytest

from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import Weather


def harness_of(cloud: FakeCloud) -> Harness:
    def machine(machine_id: str) -> SimMachine:
        return cloud.sim.machines[machine_id]

    return Harness(
        info=cloud.info,
        driver=cloud,
        clock=cloud.clock.clock(),
        job=lambda name, _seconds: sample_job(name=name, store_url=f"memory://{name}"),
        preempt=lambda machine_id: cloud.sim.preempt(machine(machine_id)),
        patience_s=3600.0,
        pause_s=5.0,
    )


class TestFakeCloud(DriverConformance):
    @pytest.fixture
    def harness(self) -> Harness:
        return harness_of(FakeCloud())


class TestSlowAndLaggingFakeCloud(DriverConformance):
    @pytest.fixture
    def harness(self) -> Harness:
        weather = Weather(
            latency_s=(0.1, 2.0),
            boot_s=(60.0, 600.0),
            ending_s=(0.0, 60.0),
            list_lag_s=30.0,
            preempted_stays=1.0,
        )
        return harness_of(FakeCloud(weather=weather, seed=3))
