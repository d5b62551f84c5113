"""A simulated Lambda for each test, and a driver that talks to it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

MakeDriver = Callable[[LambdaSimulator], LambdaDriver]
WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[LambdaSimulator]:
    with LambdaSimulator(tmp_path / "machines") as simulator:
        yield simulator


@pytest.fixture
def make_driver(tmp_path: Path) -> MakeDriver:
    """A driver for a simulated account, as a process of its own would have it."""

    def make(simulator: LambdaSimulator) -> LambdaDriver:
        environment = {**simulator.environment, "KWANZAA_HOME": str(tmp_path / "home")}
        return LambdaDriver(DriverContext(environment, Clock(), simulator.endpoint))

    return make


@pytest.fixture
def driver(simulator: LambdaSimulator, make_driver: MakeDriver) -> LambdaDriver:
    return make_driver(simulator)


@pytest.fixture
def working() -> tuple[str, ...]:
    """The command of a machine that prints `hello` and works for ten minutes."""
    return (sys.executable, "-c", WORK, "600")
