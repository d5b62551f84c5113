"""Every request of ours and every answer of the simulator, against Lambda's own description."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase
from kwanzaa_compute.drivers.http import HttpClient, StatusError, bearer
from kwanzaa_compute.testing.loopback import Reply, Request
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

Check = Callable[[Request, Reply], None]
FILE = "lambda-cloud-1.10.0.json"


def everything(simulator: LambdaSimulator, driver: LambdaDriver) -> None:
    """Each call of the driver, and each refusal that it knows."""
    offer = next(o for o in driver.offers() if o.id == "gpu_1x_a10")
    job = sample_job(name="kwz-me-d1-1", argv=("sleep", "600"))
    machine_id = driver.launch(job, offer)
    clock = Clock()
    last = clock.monotonic() + 20
    while driver.inspect(machine_id).phase is not Phase.RUNNING:
        assert clock.monotonic() < last
    assert [seen.name for seen in driver.fleet()] == ["kwz-me-d1-1"]
    assert driver.ssh(machine_id)
    assert driver.inspect("no-such-machine").phase is Phase.GONE
    driver.terminate("no-such-machine")
    for wrong in (replace(offer, id="gpu_9x_none"), replace(offer, region="moon")):
        with pytest.raises(StatusError):
            driver.launch(job, wrong)
    simulator.cloud.sim.faults = replace(simulator.cloud.sim.faults, sold_out=1.0)
    with pytest.raises(StatusError, match="insufficient-capacity"):
        driver.launch(job, offer)
    simulator.cloud.preempt(machine_id)
    assert driver.inspect(machine_id).phase is Phase.PREEMPTED
    driver.terminate(machine_id)


def test_all_that_is_said_is_as_described(
    check: Check, simulator: LambdaSimulator, driver: LambdaDriver, tmp_path: Path
) -> None:
    everything(simulator, driver)
    environment = {**simulator.environment, "LAMBDA_API_KEY": "wrong"}
    stranger = LambdaDriver(
        DriverContext({**environment, "KWANZAA_HOME": str(tmp_path)}, Clock(), simulator.endpoint)
    )
    with pytest.raises(StatusError, match="invalid-api-key"):
        list(stranger.offers())
    for request, reply in simulator.server.exchanges:
        check(request, reply)
    said = {
        (r.method, "id" if "/instances/" in r.path else r.path.rpartition("v1/")[2], reply.status)
        for r, reply in simulator.server.exchanges
    }
    assert said >= {
        ("GET", "instance-types", 200),
        ("GET", "instance-types", 401),
        ("GET", "ssh-keys", 200),
        ("POST", "ssh-keys", 200),
        ("POST", "instance-operations/launch", 200),
        ("POST", "instance-operations/launch", 400),
        ("POST", "instance-operations/launch", 404),
        ("GET", "instances", 200),
        ("GET", "id", 200),
        ("GET", "id", 404),
        ("POST", "instance-operations/terminate", 200),
        ("POST", "instance-operations/terminate", 404),
    }


def test_the_check_finds_what_is_not_as_described(check: Check) -> None:
    """So that the test above can fail."""
    launch = "/api/v1/instance-operations/launch"
    headers = {"authorization": "Bearer k"}
    order = {"region_name": "us-east-1", "instance_type_name": "gpu_1x_a10"}
    complete = Request(
        "POST", launch, {}, headers, json.dumps({**order, "ssh_key_names": ["k"]}).encode()
    )
    answer = {"data": {"instance_ids": ["m-1"]}}
    check(complete, Reply(200, answer))
    wrong = [
        (replace(complete, body=json.dumps(order).encode()), Reply(200, answer)),
        (replace(complete, headers={}), Reply(200, answer)),
        (replace(complete, path="/api/v1/no-such-thing"), Reply(200, answer)),
        (complete, Reply(200, {"data": {}})),
        (complete, Reply(400, {"error": {"code": "made/up", "message": "?"}})),
    ]
    for request, reply in wrong:
        with pytest.raises(Exception):  # noqa: B017, PT011 -- any of the many that it has
            check(request, reply)


# -- a second opinion -------------------------------------------------------------------------


@pytest.mark.slow
def test_prism_finds_nothing_wrong_either(
    api_descriptions: Path,
    simulator: LambdaSimulator,
    make_driver: Callable[[LambdaSimulator], LambdaDriver],
    prism: Callable[[Path, str], AbstractContextManager[str]],
) -> None:
    """It stands between driver and simulator, and turns what is not as described into a 500."""
    simulator.server.keeps_alive = False  # Prism's own client would lose such connections
    with prism(api_descriptions / FILE, simulator.endpoint) as endpoint:
        wrong = HttpClient(
            endpoint, authorization=bearer(simulator.environment["LAMBDA_API_KEY"], "")
        )
        with pytest.raises(StatusError, match="422"):
            wrong.call("POST", "/api/v1/instance-operations/launch", body={"region_name": "moon"})
        simulator.endpoint = endpoint
        everything(simulator, make_driver(simulator))
