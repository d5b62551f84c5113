"""What goes wrong at AWS: each one clear line, the right exit code, and nothing launched twice."""

import json
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import (
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.settings import ROLE
from kwanzaa_compute_sagemaker.simulated.account import KEY_ID
from kwanzaa_compute_sagemaker.simulated.api import refused
from kwanzaa_compute_sagemaker.simulated.moto import MotoServer
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

Jobs = Callable[..., Job]
WORK = ("python3", "-c", "import time; time.sleep(600)")


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
    assert "hunter2" not in str(error)
    return error


def parcels(simulator: SageMakerSimulator) -> list[str]:
    listed = simulator._inside.call("s3", "list_objects_v2", Bucket=simulator.bucket)
    return [item["Key"] for item in listed.get("Contents", [])]


def requests(simulator: SageMakerSimulator, operation: str) -> list[dict[str, Any]]:
    return [
        json.loads(request.body)
        for request, _ in simulator.server.exchanges
        if request.headers.get("x-amz-target", "").endswith(f".{operation}")
    ]


def test_expired_credentials(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.account.expired.add(KEY_ID)
    error = why(provider, job, on_demand)
    assert isinstance(error, CredentialsError)
    assert error.exit_code == 3
    assert "expired" in error.mend
    assert error.nothing_was_created


def test_an_unknown_key(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.account.keys.clear()
    assert isinstance(why(provider, job, on_demand), CredentialsError)
    assert parcels(simulator) == []  # what nobody will fetch is taken away again


def test_no_credentials_at_all(
    simulator: SageMakerSimulator,
    driver_of: Callable[..., SageMakerDriver],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where this process has some: the driver reads its context alone."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OFSOMEBODYELSE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    driver = driver_of(
        simulator,
        AWS_ACCESS_KEY_ID="",
        AWS_CONFIG_FILE=str(tmp_path / "none"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
    )
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        list(driver.offers())


def test_a_profile_is_enough(
    simulator: SageMakerSimulator, driver_of: Callable[..., SageMakerDriver], tmp_path: Path
) -> None:
    environment = simulator.environment
    file = tmp_path / "credentials"
    file.write_text(
        f"[work]\naws_access_key_id={KEY_ID}\n"
        f"aws_secret_access_key={environment['AWS_SECRET_ACCESS_KEY']}\n"
    )
    driver = driver_of(
        simulator,
        AWS_ACCESS_KEY_ID="",
        AWS_PROFILE="work",
        AWS_CONFIG_FILE=str(tmp_path / "none"),
        AWS_SHARED_CREDENTIALS_FILE=str(file),
    )
    assert list(driver.offers())


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, InvalidRequestError, "no AWS region"),
        ({"AWS_REGION": "mars"}, InvalidRequestError, "'mars' is not an AWS region"),
        ({ROLE: ""}, CredentialsError, "no role"),
        ({ROLE: "admin"}, CredentialsError, "not the ARN of a role"),
        ({ROLE: "arn:aws:iam::123456789012:role/other"}, CredentialsError, "Could not assume role"),
    ],
    ids=["no region", "a wrong region", "no role", "a wrong role", "an unknown role"],
)
def test_a_setting_that_is_missing_or_wrong(
    simulator: SageMakerSimulator,
    driver_of: Callable[..., SageMakerDriver],
    provider: Provider,
    on_demand: Offer,
    job: Job,
    settings: dict[str, str],
    kind: type[ProviderError],
    words: str,
) -> None:
    provider.driver = driver_of(simulator, **settings)
    error = why(provider, job, on_demand)
    assert isinstance(error, kind)
    assert words in error.message
    assert error.nothing_was_created


def test_a_region_where_the_key_is_not_known(
    simulator: SageMakerSimulator,
    driver_of: Callable[..., SageMakerDriver],
    provider: Provider,
    on_demand: Offer,
    job: Job,
) -> None:
    provider.driver = driver_of(simulator, AWS_REGION="eu-west-1")
    assert isinstance(why(provider, job, on_demand), CredentialsError)


def test_a_bucket_that_is_not_there(provider: Provider, on_demand: Offer, job_of: Jobs) -> None:
    error = why(provider, job_of("kwz-me-f2-1", *WORK, store_url="s3://nobodys/runs"), on_demand)
    assert isinstance(error, InvalidRequestError)
    assert error.exit_code == 2
    assert "bucket" in error.mend


def test_the_bucket_of_somebody_else(provider: Provider, on_demand: Offer, job: Job) -> None:
    from botocore.exceptions import ClientError

    answer = {
        "Error": {"Code": "AccessDenied", "Message": "Access Denied"},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    error = provider.driver.classify(ClientError(answer, "PutObject"))  # type: ignore[arg-type]
    assert isinstance(error, CredentialsError)
    assert "a bucket must be your own" in error.mend


def test_a_store_that_is_not_s3(provider: Provider, on_demand: Offer, job_of: Jobs) -> None:
    with pytest.raises(InvalidRequestError, match="s3:// only"):
        provider.launch(job_of("kwz-me-f3-1", *WORK, store_url="file:///tmp/x"), on_demand)


def test_a_quota_of_zero_is_never_tried_again(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.account.quotas[on_demand.id] = 0
    error = why(provider, job, on_demand)
    assert isinstance(error, QuotaError)
    assert error.exit_code == 5
    assert "servicequotas" in error.mend
    assert error.nothing_was_created
    assert len(requests(simulator, "CreateTrainingJob")) == 1


def test_an_instance_type_that_sagemaker_does_not_have(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    words = (
        "1 validation error detected: Value 'ml.g5.xlarge' at 'resourceConfig.instanceType' failed"
        " to satisfy constraint: Member must satisfy enum value set: [ml.m5.large]"
    )
    simulator.server.interrupt(
        "POST", "/", lambda _request: refused("ValidationException", words, 400)
    )
    error = why(provider, job, on_demand)
    assert isinstance(error, InvalidRequestError)
    assert "instance type" in error.mend


def test_a_throttled_read_is_tried_again(simulator: SageMakerSimulator, provider: Provider) -> None:
    simulator.server.interrupt("POST", "/", refused("ThrottlingException", "Rate exceeded", 400))
    assert provider.fleet() == ()


def test_a_throttled_create_made_nothing_and_is_not_repeated_here(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job
) -> None:
    simulator.server.interrupt("POST", "/", refused("ThrottlingException", "Rate exceeded", 400))
    with pytest.raises(TransientError) as caught:
        provider.launch(job, on_demand)
    assert caught.value.nothing_was_created
    assert simulator.jobs.by_name == {}


def test_a_clock_that_is_wrong(
    simulator: SageMakerSimulator,
    provider: Provider,
    on_demand: Offer,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK signs with this machine's clock, here an hour behind."""
    import botocore.auth

    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) - timedelta(hours=1)
    )
    error = why(provider, job, on_demand)
    assert isinstance(error, CredentialsError)
    assert "clock" in error.mend


@pytest.mark.parametrize("answer", [DROPPED, Reply(503, b"<html>Service Unavailable</html>")])
def test_an_answer_that_is_lost_after_the_deed_is_ambiguous_and_the_job_is_found(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job, answer: Reply
) -> None:
    def after_the_deed(request: Request) -> Reply:
        simulator.server.answer(request)
        return answer

    simulator.server.interrupt("POST", "/", after_the_deed)
    with pytest.raises(TransientError) as caught:
        provider.launch(job, on_demand)
    assert not caught.value.nothing_was_created
    assert [sighting.name for sighting in provider.fleet()] == [job.name]
    assert len(requests(simulator, "CreateTrainingJob")) == 1  # the SDK repeats nothing


def test_a_name_that_exists_is_adopted_where_it_is_the_same_job(
    simulator: SageMakerSimulator, provider: Provider, on_demand: Offer, job: Job, job_of: Jobs
) -> None:
    assert provider.launch(job, on_demand) == provider.launch(job, on_demand)
    assert len(simulator.cloud.billing) == 1
    other = job_of(job.name, *WORK, store_url=f"{simulator.store_url}/runs/other")
    with pytest.raises(InvalidRequestError, match="exists already"):
        provider.launch(other, on_demand)


def test_no_instance_after_all_is_no_crash_of_ours(
    tmp_path: Path,
    moto: MotoServer,
    driver_of: Callable[..., SageMakerDriver],
    job_of: Jobs,
    on_demand: Offer,
) -> None:
    """SageMaker says so by a job that fails, not by an error."""
    capacity = {on_demand.id: 0}
    with SageMakerSimulator(tmp_path / "full", moto=moto, capacity=capacity) as full:
        driver = driver_of(full)
        job = job_of("kwz-me-f4-1", *WORK, store_url=f"{full.store_url}/runs/r1")
        machine_id = driver.launch(job, on_demand)
        clock, last = Clock(), Clock().monotonic() + 20
        while (seen := driver.inspect(machine_id)).phase is Phase.QUEUED:
            assert clock.monotonic() < last
            clock.sleep(0.05)
        assert seen.phase is Phase.PREEMPTED
        assert "CapacityError" in seen.detail


def test_a_server_that_never_answers_does_not_hold_us(
    simulator: SageMakerSimulator, driver: SageMakerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that sends a byte now and then: the limit is for the whole call."""

    def drips(_request: Request) -> Reply:
        def chunks() -> Any:
            while True:
                yield b" "
                Clock().sleep(0.05)

        return Reply(200, chunks())

    simulator.server.interrupt("POST", "/", drips)
    with pytest.raises(TimeoutError):
        driver._aws.call("sagemaker", "list_training_jobs", 0.5)


def test_nothing_speaks_to_anybody_but_loopback(
    simulator: SageMakerSimulator,
    provider: Provider,
    spot: Offer,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No telemetry, no metadata service, no proxy: every address is looked at."""
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
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    provider.driver = SageMakerDriver(
        DriverContext(simulator.environment, Clock(), simulator.endpoint)
    )
    machine_id = provider.launch(job, spot)
    provider.offers()
    provider.logs(machine_id)
    provider.terminate(machine_id)
    assert asked
    assert set(asked) == {"127.0.0.1"}
