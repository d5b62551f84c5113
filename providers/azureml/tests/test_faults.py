"""What goes wrong at Azure: each one clear line, the right exit code, nothing launched twice."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute.drivers.http import StatusError
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute_azureml.driver import AzureMLDriver
from kwanzaa_compute_azureml.identity import CLIENT, SECRET, TENANT, TOKEN_FILE
from kwanzaa_compute_azureml.settings import COMPUTE, DATASTORE, REGION, SUBSCRIPTION, WORKSPACE
from kwanzaa_compute_azureml.simulated import account as customer
from kwanzaa_compute_azureml.simulated.account import place_id
from kwanzaa_compute_azureml.simulated.arm import refused
from kwanzaa_compute_azureml.simulated.azurite import Azurite
from kwanzaa_compute_azureml.simulator import AzureMLSimulator

Jobs = Callable[..., Job]
Drivers = Callable[..., AzureMLDriver]
WORK = ("python3", "-c", "import time; time.sleep(600)")
JOBS = ".*/jobs/[^/]+"
NOBODYS = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def job(job_of: Jobs) -> Job:
    return job_of("kwz-me-f1-1", *WORK, secrets={"TOKEN": Secret("hunter2")})


def why(provider: Provider, job: Job, offer: Offer) -> ProviderError:
    """What a launch that fails says."""
    with pytest.raises(ProviderError) as caught:
        provider.launch(job, offer)
    error = caught.value
    assert error.message
    assert "\n" not in error.message
    assert error.mend
    assert not [s for s in ("hunter2", customer.SECRET, "sig=") if s in str(error)]
    return error


def creates(simulator: AzureMLSimulator) -> int:
    exchanged = simulator.server.exchanges
    return sum(q.method == "PUT" and "/jobs/" in q.path for q, _ in exchanged)


@pytest.mark.parametrize(
    ("settings", "kind", "exit_code", "words"),
    [
        ({SECRET: "wrong"}, CredentialsError, 3, "AADSTS7000215"),
        ({CLIENT: "nobody"}, CredentialsError, 3, "AADSTS700016"),
        ({TENANT: "nowhere"}, CredentialsError, 3, "authority configuration"),
        ({CLIENT: ""}, CredentialsError, 3, "AZURE_CLIENT_ID is not set"),
        ({SECRET: "", "PATH": "/nowhere"}, CredentialsError, 3, "no Azure credentials"),
        ({SECRET: "", TOKEN_FILE: "/nowhere/token"}, CredentialsError, 3, "names no file"),
        ({SUBSCRIPTION: ""}, CredentialsError, 3, "subscription is not set"),
        ({SUBSCRIPTION: NOBODYS}, InvalidRequestError, 2, "404"),
        ({WORKSPACE: "just-one"}, CredentialsError, 3, "'just-one' is not a resource group"),
        ({WORKSPACE: "simulated-group/another"}, InvalidRequestError, 2, "was not found"),
        ({REGION: ""}, InvalidRequestError, 2, "region is not set"),
        ({REGION: "westeurope"}, InvalidRequestError, 2, "lies in eastus, not in westeurope"),
        ({DATASTORE: ""}, InvalidRequestError, 2, "datastore of the workspace is not set"),
        ({DATASTORE: "another"}, InvalidRequestError, 2, "Could not find datastore"),
        ({DATASTORE: customer.OWN_DATASTORE}, InvalidRequestError, 2, "and the run's store is"),
        ({COMPUTE: "mainframe"}, InvalidRequestError, 2, "'mainframe' is not a kind of compute"),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "foreign"}, InvalidRequestError, 2, "of foreign"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "bm9uZQ=="}, CredentialsError, 3, "AuthorizationFailure"),
    ],
)  # fmt: skip
def test_a_setting_that_is_missing_or_wrong(
    simulator: AzureMLSimulator,
    driver_of: Drivers,
    provider: Provider,
    on_demand: Offer,
    job: Job,
    settings: dict[str, str],
    kind: type[ProviderError],
    exit_code: int,
    words: str,
) -> None:
    provider.driver = driver_of(simulator, **settings)
    error = why(provider, job, on_demand)
    assert isinstance(error, kind)
    assert words in error.message
    assert error.exit_code == exit_code
    assert error.nothing_was_created
    assert simulator.jobs.by_name == {}


def test_whoever_is_signed_in_to_the_command_line_is_enough(
    simulator: AzureMLSimulator,
    driver_of: Drivers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for `az account get-access-token`: the real one asks a browser first."""
    token = {"accessToken": simulator._entra.token(), "expires_on": int(Clock().now()) + 3000}
    az = tmp_path / "az"
    az.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(token)}\nEND\n")
    az.chmod(0o700)
    path = f"{tmp_path}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    assert list(driver_of(simulator, **{SECRET: "", "PATH": path}).fleet()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {WORKSPACE: "simulated-group/another"},
        {SUBSCRIPTION: NOBODYS},
    ],
)
def test_a_workspace_that_is_not_there_does_not_prove_a_machine_absent(
    simulator: AzureMLSimulator, driver_of: Drivers, settings: dict[str, str]
) -> None:
    driver = driver_of(simulator, **settings)
    for ask in (driver.inspect, driver.terminate, lambda _name: list(driver.fleet())):
        with pytest.raises(Exception, match="not"):
            ask("kwz-me-f5-1")


def test_getting_ready_for_too_long_asks_for_no_job(
    simulator: AzureMLSimulator, on_demand: Offer, job: Job
) -> None:
    """The core has given up by then, and would not know of it."""
    times = iter([0.0, 50.0])
    clock = Clock(monotonic=lambda: next(times))
    driver = AzureMLDriver(DriverContext(simulator.environment, clock, simulator.endpoint))
    with pytest.raises(TransientError, match="no job was asked for") as caught:
        driver.launch(job, on_demand)
    assert caught.value.nothing_was_created
    assert creates(simulator) == 0
    assert simulator.store().list() == []


def test_a_refused_change_of_a_job_that_is_there_leaves_it_alone(
    simulator: AzureMLSimulator, driver: AzureMLDriver, on_demand: Offer, job: Job
) -> None:
    driver.launch(job, on_demand)
    simulator.server.interrupt("PUT", JOBS, refused(400, "UserError", "A job cannot be changed"))
    assert driver.launch(job, on_demand) == job.name
    assert len(simulator.store().list()) == 1  # its parcel is still there for it
    driver.terminate(job.name)


def test_a_secret_that_has_expired(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.account.expired.add(customer.CLIENT)
    error = why(provider, job, on_demand)
    assert isinstance(error, CredentialsError)
    assert "has expired" in error.mend


def test_a_clock_that_is_wrong(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.account.skew = "The access token is not yet valid: its nbf lies ahead"
    error = why(provider, job, on_demand)
    assert isinstance(error, CredentialsError)
    assert "clock" in error.mend


def test_a_caller_without_the_right(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.account.denied.add("PUT jobs")
    error = why(provider, job, on_demand)
    assert isinstance(error, CredentialsError)
    assert "the role in the README" in error.mend
    assert error.nothing_was_created
    assert simulator.store().list() == []  # what nobody will fetch is taken away again


@pytest.mark.parametrize("compute", ["serverless", "cluster"])
def test_a_quota_of_zero_is_never_tried_again(
    simulator: AzureMLSimulator,
    driver_of: Drivers,
    provider: Provider,
    on_demand: Offer,
    job: Job,
    compute: str,
) -> None:
    provider.driver = driver_of(simulator, **{COMPUTE: compute})
    simulator.account.quotas[on_demand.id] = 0
    error = why(provider, job, on_demand)
    assert isinstance(error, QuotaError)
    assert error.exit_code == 5
    assert "https://ml.azure.com/quota" in error.mend
    assert error.nothing_was_created
    assert creates(simulator) <= 1
    assert simulator.jobs.clusters == {}


@pytest.mark.parametrize(
    "words",
    [
        "",
        "The specified value X for property Cluster.Properties.VMSize is not a supported VM size.",
    ],
)
def test_a_size_that_azure_ml_does_not_take_sends_us_to_the_next_offer(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job, words: str
) -> None:
    """It has a price as a virtual machine all the same."""
    simulator.account.unknown_sizes.add(on_demand.id)
    if words:
        simulator.server.interrupt("PUT", JOBS, refused(400, "InvalidPropertyValue", words))
    error = why(provider, job, on_demand)
    assert isinstance(error, CapacityError)
    assert error.nothing_was_created
    assert "list-sizes" in error.mend


def test_a_size_that_is_sold_out_sends_us_to_the_next_offer(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    answer = refused(409, "AllocationFailed", "We do not have sufficient capacity for the size")
    simulator.server.interrupt("PUT", JOBS, answer)
    error = why(provider, job, on_demand)
    assert isinstance(error, CapacityError)
    assert error.nothing_was_created


def test_no_machine_after_all_is_no_crash_of_ours(
    tmp_path: Path, azurite: Azurite, driver_of: Drivers, job_of: Jobs, spot: Offer
) -> None:
    """Azure ML says so by a job that fails, not by an error."""
    size = spot.id.removesuffix("-spot")
    capacity = {place_id(size, meter): 0 for meter in customer.Meter}
    with AzureMLSimulator(tmp_path / "full", azurite=azurite, capacity=capacity) as full:
        driver = driver_of(full)
        machine_id = driver.launch(
            job_of("kwz-me-f4-1", *WORK, store_url=f"{full.store_url}/r1"), spot
        )
        clock, last = Clock(), Clock().monotonic() + 20
        while (seen := driver.inspect(machine_id)).phase is Phase.QUEUED:
            assert clock.monotonic() < last
            clock.sleep(0.05)
        assert seen.phase is Phase.PREEMPTED
        assert "AllocationFailed" in seen.detail


def test_throttling_is_waited_for_as_long_as_azure_asks_and_no_create_is_repeated(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    busy = refused(429, "TooManyRequests", "The request is being throttled")
    simulator.server.interrupt("GET", ".*/jobs", Reply(429, busy.body, {"Retry-After": "0.01"}))
    assert provider.fleet() == ()
    slow = Reply(429, busy.body, {"Retry-After": "17"})
    simulator.server.interrupt("PUT", JOBS, slow)
    with pytest.raises(TransientError) as caught:
        provider.launch(job, on_demand)
    assert caught.value.retry_after_s == 17
    assert caught.value.nothing_was_created
    assert creates(simulator) == 1
    simulator.server.interrupt("GET", "/api/retail/prices", slow)
    with pytest.raises(StatusError) as refusal:
        list(provider.driver.offers())
    assert provider.driver.classify(refusal.value).retry_after_s == 17


@pytest.mark.parametrize("answer", [DROPPED, Reply(503, b"<html>Service Unavailable</html>")])
def test_an_answer_that_is_lost_after_the_deed_is_ambiguous_and_the_job_is_found(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job, answer: Reply
) -> None:
    def after_the_deed(request: Request) -> Reply:
        simulator.server.answer(request)
        return answer

    simulator.server.interrupt("PUT", JOBS, after_the_deed)
    with pytest.raises(TransientError) as caught:
        provider.launch(job, on_demand)
    assert not caught.value.nothing_was_created
    assert [sighting.name for sighting in provider.fleet()] == [job.name]
    assert creates(simulator) == 1  # the SDK repeats nothing
    provider.terminate(job.name)
    assert simulator.store().list() == []


def test_a_job_that_cannot_be_read_makes_the_list_an_error(
    simulator: AzureMLSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    """The SDK would leave it out, and half a list would prove machines absent."""
    provider.launch(job, on_demand)

    def odd(request: Request) -> Reply:
        body: Any = simulator.server.answer(request).body
        for row in body["value"]:
            row["properties"]["services"] = 3
        return Reply(200, body)

    simulator.server.interrupt("GET", ".*/jobs", odd)
    with pytest.raises(Exception, match="cannot be read"):
        list(provider.driver.fleet())


def test_a_server_that_never_answers_does_not_hold_us(
    simulator: AzureMLSimulator, driver: AzureMLDriver
) -> None:
    """Nor one that sends a byte now and then: the limit is for the whole call."""

    def drips(_request: Request) -> Reply:
        def chunks() -> Any:
            while True:
                yield b" "
                Clock().sleep(0.05)

        return Reply(200, chunks())

    simulator.server.interrupt("GET", ".*/jobs/kwz-x", drips)
    with pytest.raises(TimeoutError):
        driver._azure.call(lambda client: client.jobs.get("kwz-x"), 0.5)


def test_nothing_speaks_to_anybody_but_loopback_or_writes_to_the_screen(
    simulator: AzureMLSimulator,
    driver_of: Drivers,
    provider: Provider,
    spot: Offer,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No telemetry, no metadata service: every address is looked at."""
    asked: list[str] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def watched(self: socket.socket, address: Any) -> Any:
        asked.append(str(address[0]))
        return connect(self, address)

    def resolved(host: Any, *words: Any, **more: Any) -> Any:
        asked.append(str(host))
        return resolve(host, *words, **more)

    monkeypatch.setattr(socket.socket, "connect", watched)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    provider.driver = driver_of(simulator)
    machine_id = provider.launch(job, spot)
    provider.offers()
    provider.inspect(machine_id)
    provider.logs(machine_id)
    provider.terminate(machine_id)
    assert asked
    assert set(asked) == {"127.0.0.1"}
    assert capfd.readouterr() == ("", "")
