"""A simulated AWS, the driver, and jobs for its machines. moto is started once for all tests."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, ProviderInfo
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_sagemaker import kwanzaa_providers
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.simulated.moto import MotoServer
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def simulator(tmp_path: Path, moto: MotoServer) -> Iterator[SageMakerSimulator]:
    with SageMakerSimulator(tmp_path / "cloud", moto=moto, grace_s=1.0) as simulator:
        yield simulator


@pytest.fixture
def driver_of() -> Callable[..., SageMakerDriver]:
    """A driver for a simulator, with settings on top."""

    def make(simulator: SageMakerSimulator, **settings: str) -> SageMakerDriver:
        environment = {**simulator.environment, **settings}
        return SageMakerDriver(DriverContext(environment, Clock(), simulator.endpoint))

    return make


@pytest.fixture
def driver(
    simulator: SageMakerSimulator, driver_of: Callable[..., SageMakerDriver]
) -> SageMakerDriver:
    return driver_of(simulator)


@pytest.fixture
def info(simulator: SageMakerSimulator) -> ProviderInfo:
    (info,) = kwanzaa_providers()
    return simulator.adapt(info)


@pytest.fixture
def provider(driver: SageMakerDriver, info: ProviderInfo) -> Provider:
    """The driver behind its portable face, with retries that do not take long."""
    policy = RetryPolicy(attempts=3, first_pause_s=0.01, longest_pause_s=0.02, deadline_s=30.0)
    return Provider(info, driver, Clock(), policy)


@pytest.fixture
def job_of(simulator: SageMakerSimulator) -> Callable[..., Job]:
    """A job for the simulator's own bucket."""

    def make(name: str, *argv: str, **changes: object) -> Job:
        job = sample_job(
            name=name, argv=argv, store_url=f"{simulator.store_url}/runs/r1", disk_gib=10.5
        )
        return replace(job, **changes)

    return make


@pytest.fixture
def on_demand(driver: SageMakerDriver) -> Offer:
    return next(offer for offer in driver.offers() if not offer.spot)


@pytest.fixture
def spot(driver: SageMakerDriver) -> Offer:
    return next(offer for offer in driver.offers() if offer.spot)


@pytest.fixture
def harness(
    simulator: SageMakerSimulator,
    driver: SageMakerDriver,
    info: ProviderInfo,
    job_of: Callable[..., Job],
) -> Harness:
    def work(name: str, seconds: float) -> Job:
        return job_of(name, sys.executable, "-c", WORK, str(seconds))

    def exiting(name: str, code: int) -> Job:
        return job_of(name, sys.executable, "-c", f"raise SystemExit({code})")

    return Harness(
        info=info,
        driver=driver,
        clock=Clock(),
        job=work,
        exiting=exiting,
        preempt=simulator.cloud.preempt,
    )
