"""Every request of ours and every answer of the simulator, against RunPod's own description."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest, MockResponse

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.drivers.http import StatusError
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute.testing.weather import Faults
from kwanzaa_compute_runpod.driver import VOLUME, RunPodDriver
from kwanzaa_compute_runpod.guard import Machine
from kwanzaa_compute_runpod.simulator import RunPodSimulator

BASE = "https://api.runpod.io"
FILE = "runpod-rest-v2.json"


@pytest.fixture(scope="session")
def description(api_descriptions: Path) -> OpenAPI:
    readers = {"application/problem+json": json.loads, "text/event-stream": bytes.decode}
    config = Config(extra_media_type_deserializers=readers)
    return OpenAPI.from_dict(json.loads((api_descriptions / FILE).read_text()), config=config)


def check(description: OpenAPI, request: Request, reply: Reply) -> None:
    asked = MockRequest(
        BASE,
        request.method,
        request.path,
        args={name: values[0] for name, values in request.query.items()},
        headers=dict(request.headers),
        data=request.body or None,
        content_type=request.headers.get("content-type", "application/json"),
    )
    description.validate_request(asked)
    kind = dict(reply.headers).get("Content-Type", "application/json")
    content = json.dumps(reply.body).encode() if isinstance(reply.body, dict) else b""
    if not isinstance(reply.body, dict | bytes):  # a stream: its events are read by our driver
        kind, content = "text/event-stream", b"data: {}"
    answer = MockResponse(content, reply.status, dict(reply.headers), kind)
    description.validate_response(asked, answer)


def test_all_that_is_said_is_as_described(
    description: OpenAPI,
    simulator: RunPodSimulator,
    harness: Harness,
    driver_of: Callable[..., RunPodDriver],
) -> None:
    everything(simulator, harness, driver_of)
    for request, reply in simulator.server.exchanges:
        check(description, request, reply)
    said = {
        (request.method, path_of(request.path), reply.status)
        for request, reply in simulator.server.exchanges
    }
    assert said >= {
        ("GET", "/v2/catalog/gpus", 200),
        ("GET", "/v2/network-volumes/ID", 200),
        ("GET", "/v2/network-volumes/ID", 404),
        ("POST", "/v2/pods", 201),
        ("POST", "/v2/pods", 400),
        ("POST", "/v2/pods", 402),
        ("POST", "/v2/pods", 403),
        ("POST", "/v2/pods", 429),
        ("POST", "/v2/pods", 500),
        ("GET", "/v2/pods", 200),
        ("GET", "/v2/pods", 401),
        ("GET", "/v2/pods/ID", 200),
        ("GET", "/v2/pods/ID", 403),
        ("GET", "/v2/pods/ID", 404),
        ("GET", "/v2/pods/ID/logs", 200),
        ("POST", "/v2/pods/ID/action", 200),
        ("POST", "/v2/pods/ID/action", 409),
        ("DELETE", "/v2/pods/ID", 204),
        ("DELETE", "/v2/pods/ID", 404),
    }


def path_of(path: str) -> str:
    parts = path.split("/")
    if parts[2] in {"pods", "network-volumes"} and len(parts) > 3:
        parts[3] = "ID"
    return "/".join(parts)


def everything(
    simulator: RunPodSimulator, harness: Harness, driver_of: Callable[..., RunPodDriver]
) -> None:
    """Each call of the driver and of the guard, and each refusal that they know."""
    account, driver = simulator.account, harness.driver
    account.volumes["vol-1"] = "EU-RO-1"
    with_volume = driver_of(simulator, **{VOLUME: "vol-1"})
    offer = next(offer for offer in with_volume.offers() if "A5000" in offer.id)
    machine_id = with_volume.launch(harness.job("kwz-me-d1-1", 600), offer)
    harness.until(lambda: driver.inspect(machine_id).phase is Phase.RUNNING, "it runs")
    harness.until(lambda: "hello" in list(driver.logs(machine_id)), "it says hello")
    account.page_size = 1
    other = harness.launch(harness.job("kwz-me-d2-1", 600))
    assert {seen.machine_id for seen in driver.fleet()} == {machine_id, other}
    own = Machine(simulator.endpoint, machine_id, account.key_of(machine_id))
    stranger = Machine(simulator.endpoint, machine_id, account.key_of(other))
    assert (own.read(), own.stop(), own.stop(), stranger.read()) == (200, 200, 409, 403)
    harness.end(machine_id)
    harness.end(other)
    driver.terminate("no-such-machine")
    refused(simulator, harness, driver_of)


def refused(
    simulator: RunPodSimulator, harness: Harness, driver_of: Callable[..., RunPodDriver]
) -> None:
    account, job = simulator.account, harness.job("kwz-me-d3-1", 600)
    offer = next(iter(harness.driver.offers()))
    with pytest.raises(StatusError, match="400"):
        harness.driver.launch(job, replace(offer, id="NVIDIA Nothing"))
    for status, trouble in (
        ("429", Faults(rate_limited=1.0)),
        ("500", Faults(create_errors_before=1.0)),
        ("400", Faults(sold_out=1.0)),
    ):
        simulator.cloud.sim.faults = trouble
        with pytest.raises(StatusError, match=status):
            harness.driver.launch(job, offer)
    simulator.cloud.sim.faults = Faults()
    account.denied = frozenset({offer.id})
    with pytest.raises(StatusError, match="403"):
        harness.driver.launch(job, offer)
    account.balance_usd = Decimal(0)
    with pytest.raises(StatusError, match="402"):
        harness.driver.launch(job, offer)
    with pytest.raises(StatusError, match="401"):
        list(driver_of(simulator, RUNPOD_API_KEY="wrong").fleet())
    with pytest.raises(Exception, match="no network volume"):
        list(driver_of(simulator, **{VOLUME: "none"}).offers())


def test_the_check_finds_what_is_not_as_described(description: OpenAPI) -> None:
    """So that the test above can fail."""
    headers = {"authorization": "Bearer k", "content-type": "application/json"}
    body = {"name": "n", "image": "i", "gpu": {"id": "NVIDIA L4"}, "disk": 1}
    good = Request("POST", "/v2/pods", {}, headers, json.dumps(body).encode())
    refusal = {"title": "Bad Request", "status": 400, "detail": "no"}
    problem = Reply(400, refusal, {"Content-Type": "application/problem+json"})
    check(description, good, problem)
    for wrong in (
        {**body, "interruptible": True},
        {**body, "gpu": {"id": "NVIDIA L4", "minVramGb": 1}},
        {"image": "i"},
        {"name": "n"},
    ):
        request = replace(good, body=json.dumps(wrong).encode())
        with pytest.raises(Exception):  # noqa: B017, PT011 -- any of the many that it has
            check(description, request, problem)
    for reply in (Reply(201, {"id": "m"}), replace(problem, body={"error": "x"})):
        with pytest.raises(Exception):  # noqa: B017, PT011 -- any of the many that it has
            check(description, good, reply)
