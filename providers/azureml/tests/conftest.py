"""A simulated Azure, the driver, jobs for its machines. Blob storage is started once for all."""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, ProviderInfo
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_azureml import kwanzaa_providers
from kwanzaa_compute_azureml.driver import AzureMLDriver
from kwanzaa_compute_azureml.simulated.azurite import INSTALL, Azurite, is_installed
from kwanzaa_compute_azureml.simulator import AzureMLSimulator

WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


@pytest.fixture(scope="session")
def azurite(
    require_tool: Callable[[str], str],
    not_here: Callable[[str, str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Azurite]:
    """Real blob storage over TLS."""
    for tool in ("node", "npm"):
        require_tool(tool)
    if not is_installed():
        not_here("Azurite", f"make test installs it, or: {INSTALL}")
    with Azurite(tmp_path_factory.mktemp("azurite"), Clock().now()) as server:
        yield server


@pytest.fixture
def container(azurite: Azurite) -> str:
    """The URL of an empty container."""
    name = f"test-{secrets.token_hex(6)}"
    azurite.create_container(name, Clock().now())
    return f"az://{name}"


@pytest.fixture
def owner(azurite: Azurite) -> Mapping[str, str]:
    """The environment of the account's owner."""
    return azurite.environment


@pytest.fixture
def simulator(tmp_path: Path, azurite: Azurite) -> Iterator[AzureMLSimulator]:
    with AzureMLSimulator(tmp_path / "cloud", azurite=azurite, grace_s=1.0) as simulator:
        yield simulator


@pytest.fixture
def driver_of() -> Callable[..., AzureMLDriver]:
    """A driver for a simulator, with settings on top."""

    def make(simulator: AzureMLSimulator, **settings: str) -> AzureMLDriver:
        environment = {**simulator.environment, **settings}
        return AzureMLDriver(DriverContext(environment, Clock(), simulator.endpoint))

    return make


@pytest.fixture
def driver(simulator: AzureMLSimulator, driver_of: Callable[..., AzureMLDriver]) -> AzureMLDriver:
    return driver_of(simulator)


@pytest.fixture
def info(simulator: AzureMLSimulator) -> ProviderInfo:
    (info,) = kwanzaa_providers()
    return simulator.adapt(info)


@pytest.fixture
def provider(driver: AzureMLDriver, info: ProviderInfo) -> Provider:
    """The driver behind its portable face, with retries that do not take long."""
    policy = RetryPolicy(attempts=3, first_pause_s=0.01, longest_pause_s=0.02, deadline_s=30.0)
    return Provider(info, driver, Clock(), policy)


@pytest.fixture
def job_of(simulator: AzureMLSimulator) -> Callable[..., Job]:
    """A job for the simulator's own container."""

    def make(name: str, *argv: str, **changes: object) -> Job:
        job = sample_job(name=name, argv=argv, store_url=f"{simulator.store_url}/r1", disk_gib=10.5)
        return replace(job, **changes)

    return make


@pytest.fixture
def on_demand(driver: AzureMLDriver) -> Offer:
    return next(offer for offer in driver.offers() if not offer.spot)


@pytest.fixture
def spot(driver: AzureMLDriver) -> Offer:
    return next(offer for offer in driver.offers() if offer.spot)


@pytest.fixture
def harness(
    simulator: AzureMLSimulator,
    driver: AzureMLDriver,
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
