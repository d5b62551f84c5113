"""A simulated RunPod, its driver, and jobs for its machines."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, ProviderInfo
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_runpod import kwanzaa_providers
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.simulator import RunPodSimulator

WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


def work(name: str, seconds: float) -> Job:
    """A job that says hello and then works for so many seconds."""
    return sample_job(name=name, argv=(sys.executable, "-c", WORK, str(seconds)), disk_gib=10.5)


@pytest.fixture(autouse=True)
def quiet_logs_are_over_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a log is known by its silence; on loopback a short one will do."""
    monkeypatch.setattr("kwanzaa_compute_runpod.client.LOGS_QUIET_S", 1.0)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[RunPodSimulator]:
    with RunPodSimulator(tmp_path / "cloud") as simulator:
        yield simulator


@pytest.fixture
def driver_of(tmp_path: Path) -> Callable[..., RunPodDriver]:
    """A driver for a simulator, with settings on top."""

    def make(simulator: RunPodSimulator, **settings: str) -> RunPodDriver:
        home = {"KWANZAA_HOME": str(tmp_path / "home")}
        environment = {**simulator.environment, **home, **settings}
        return RunPodDriver(DriverContext(environment, Clock(), simulator.endpoint))

    return make


@pytest.fixture
def driver(simulator: RunPodSimulator, driver_of: Callable[..., RunPodDriver]) -> RunPodDriver:
    return driver_of(simulator)


@pytest.fixture
def info(simulator: RunPodSimulator) -> ProviderInfo:
    (info,) = kwanzaa_providers()
    return simulator.adapt(info)


@pytest.fixture
def provider(driver: RunPodDriver, info: ProviderInfo) -> Provider:
    """The driver behind its portable face, with retries that do not take long."""
    policy = RetryPolicy(attempts=3, first_pause_s=0.01, longest_pause_s=0.02, deadline_s=20.0)
    return Provider(info, driver, Clock(), policy)


@pytest.fixture
def harness(simulator: RunPodSimulator, driver: RunPodDriver, info: ProviderInfo) -> Harness:
    return Harness(
        info=info,
        driver=driver,
        clock=Clock(),
        job=work,
        preempt=simulator.cloud.preempt,
    )
