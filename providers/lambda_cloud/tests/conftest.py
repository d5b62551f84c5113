"""A simulated Lambda for each test, and a driver that talks to it."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.testing.loopback import Reply, Request
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

MakeDriver = Callable[[LambdaSimulator], LambdaDriver]
NOT_DESCRIBED = {429, 500}
"""Lambda answers these, as everybody's clients know; its description has no word of them."""
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


@pytest.fixture(scope="session")
def check(api_descriptions: Path) -> Callable[[Request, Reply], None]:
    """Raises where a request or its answer is not as Lambda's published description says."""
    path = api_descriptions / "lambda-cloud-1.10.0.json"
    description = OpenAPI.from_dict(json.loads(path.read_text()))

    def as_described(request: Request, reply: Reply) -> None:
        asked = MockRequest(
            "https://cloud.lambda.ai",
            request.method.lower(),
            request.path,
            data=request.body or None,
            headers=dict(request.headers),
            content_type="application/json",
        )
        description.validate_request(asked)
        if reply.status not in NOT_DESCRIBED:
            body = json.dumps(reply.body).encode()
            description.validate_response(asked, MockResponse(body, status_code=reply.status))

    return as_described


@pytest.fixture
def described(simulator: LambdaSimulator, request: pytest.FixtureRequest) -> Iterator[None]:
    """Checks all that was said in a test, where the description is at hand."""
    check = request.getfixturevalue("check") if os.environ.get("KWANZAA_SPECS") else None
    yield
    for asked, reply in simulator.server.exchanges if check else ():
        check(asked, reply)
