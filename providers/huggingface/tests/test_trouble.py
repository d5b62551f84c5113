"""What goes wrong at Hugging Face, what it means, and that no secret shows in it."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Driver, DriverContext, Job, Phase, Sighting
from kwanzaa_compute.errors import (
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute.runs.lifecycle import Attempt, Limits, decide
from kwanzaa_compute.runs.records import AttemptState, Move
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute.testing.weather import Faults, Weather
from kwanzaa_compute_huggingface.jobs import JobsDriver
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN
from kwanzaa_compute_huggingface.spaces import SpacesDriver

PATIENCE_S = 60.0
CREATES = {"jobs": "/api/jobs/.*", "spaces": "/api/repos/create"}


@pytest.fixture(params=["jobs", "spaces"])
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driver(which: str, context: DriverContext) -> Driver:
    return JobsDriver(context) if which == "jobs" else SpacesDriver(context)


def launched(driver: Driver, job: Job) -> str:
    return driver.launch(job, next(iter(driver.offers())))


def refusal(driver: Driver, call: Callable[[], object]) -> ProviderError:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- raw ones, of any kind
        call()
    meaning = driver.classify(caught.value)
    assert TOKEN not in str(meaning)
    assert TOKEN not in str(caught.value)
    return meaning


def until(driver: Driver, machine_id: str, phase: Phase) -> Sighting:
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while (seen := driver.inspect(machine_id)).phase is not phase:
        assert clock.monotonic() < last, f"it is {seen}, not {phase}"
        clock.sleep(0.05)
    return seen


# -- answers ----------------------------------------------------------------------------------


def test_without_credit_nothing_is_created_and_the_provider_is_given_up(
    driver: Driver, hub: HubSimulator
) -> None:
    hub.credit_usd = Decimal(0)
    meaning = refusal(driver, lambda: launched(driver, sample_job()))
    assert isinstance(meaning, QuotaError)
    assert meaning.nothing_was_created
    assert "billing" in meaning.mend
    assert list(driver.fleet()) == []


def test_too_many_requests_say_when_to_come_again(
    driver: Driver, hub: HubSimulator, which: str
) -> None:
    answer = Reply(429, {"error": "Too Many Requests"}, {"Retry-After": "17"})
    hub.server.interrupt("POST", CREATES[which], answer)
    meaning = refusal(driver, lambda: launched(driver, sample_job()))
    assert isinstance(meaning, TransientError)
    assert meaning.retry_after_s == 17
    assert meaning.nothing_was_created


@pytest.mark.parametrize(
    "answer",
    [
        Reply(500, {"error": "Internal Server Error"}),
        Reply(502, b"<html>Bad Gateway</html>"),
        Reply(503, b""),
        Reply(200, b"<html>Welcome</html>"),
        Reply(dropped=True),
    ],
    ids=["500", "502", "503", "not JSON", "no answer"],
)
def test_an_answer_that_says_nothing_leaves_a_launch_open(
    driver: Driver, hub: HubSimulator, which: str, answer: Reply
) -> None:
    hub.server.interrupt("POST", CREATES[which], answer)
    meaning = refusal(driver, lambda: launched(driver, sample_job()))
    assert isinstance(meaning, TransientError)
    assert not meaning.nothing_was_created


def test_a_machine_whose_answer_was_lost_is_found_by_its_name(
    driver: Driver, hub: HubSimulator, which: str, working: Callable[[str, float], Job]
) -> None:
    def after_the_deed(request: Request) -> Reply:
        hub.server.answer(request)
        return Reply(500, {"error": "Internal Server Error"})

    hub.server.interrupt("POST", CREATES[which], after_the_deed)
    refusal(driver, lambda: launched(driver, working("kwz-me-lost-1", 600)))
    (found,) = driver.fleet()
    assert found.name == "kwz-me-lost-1"
    driver.terminate(found.machine_id)
    assert list(driver.fleet()) == []


def test_a_wrong_request_is_never_repeated(driver: Driver) -> None:
    offer = replace(next(iter(driver.offers())), id="no-such-flavour")
    meaning = refusal(driver, lambda: driver.launch(sample_job(), offer))
    assert isinstance(meaning, InvalidRequestError)
    assert meaning.nothing_was_created


def test_without_a_token_it_is_said_where_one_is_made(hub: HubSimulator) -> None:
    driver = JobsDriver(DriverContext({}, Clock(), hub.endpoint))
    meaning = refusal(driver, lambda: list(driver.offers()))
    assert isinstance(meaning, CredentialsError)
    assert "settings/tokens" in meaning.mend


def test_a_token_that_was_revoked_is_never_taken_for_absence(
    driver: Driver, hub: HubSimulator, working: Callable[[str, float], Job]
) -> None:
    machine_id = launched(driver, working("kwz-me-revoked-1", 600))
    user = hub.tokens.pop(TOKEN)
    for call in (
        lambda: driver.inspect(machine_id),
        lambda: list(driver.fleet()),
        lambda: driver.terminate(machine_id),
        lambda: launched(driver, sample_job()),
    ):
        assert isinstance(refusal(driver, call), CredentialsError)
    hub.tokens[TOKEN] = user
    driver.terminate(machine_id)
    assert driver.inspect(machine_id).phase is Phase.GONE


def test_a_server_that_echoes_the_token_does_not_get_it_into_an_error(
    driver: Driver, hub: HubSimulator, which: str
) -> None:
    echo = Reply(400, {"error": f"bad header: Bearer {TOKEN}"})
    hub.server.interrupt("POST", CREATES[which], echo)
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the client's own
        launched(driver, sample_job())
    assert TOKEN not in str(driver.classify(caught.value))


# -- a queue, a Space that is not built, one that its owner paused ----------------------------


def test_a_job_that_waits_for_hours_costs_nothing_and_ends_at_the_boot_deadline(
    tmp_path: Path, working: Callable[[str, float], Job]
) -> None:
    hours = Weather(boot_s=(7200.0, 7200.0))
    with HubSimulator(tmp_path, weather=hours) as hub:
        driver = JobsDriver(DriverContext(hub.environment, Clock(), hub.endpoint))
        machine_id = launched(driver, working("kwz-me-queue-1", 600))
        seen = driver.inspect(machine_id)
        assert (seen.phase, seen.usd_per_hour) == (Phase.QUEUED, 0)
        waited = Attempt(AttemptState.LIVE, age_s=1200.0, quiet_s=1200.0)
        limits = Limits(settle_s=60.0, boot_s=1200.0, max_age_s=36_000.0)
        assert decide(seen, None, waited, limits)[0] is Move.RELAUNCH
        driver.terminate(machine_id)
        assert driver.inspect(machine_id).phase is Phase.GONE


def test_a_space_that_cannot_be_built_has_ended_and_says_why(
    context: DriverContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "FROM python:3.12\nRUN make everything\nCMD true\n"
    monkeypatch.setattr("kwanzaa_compute_huggingface.space_files.DOCKERFILE", broken)
    driver = SpacesDriver(context)
    machine_id = launched(driver, sample_job())
    seen = driver.inspect(machine_id)
    assert seen.phase is Phase.EXITED
    assert seen.usd_per_hour == 0
    assert "BUILD_ERROR" in seen.detail
    assert "unknown instruction" in "\n".join(driver.logs(machine_id))


def test_a_space_that_its_owner_paused_has_ended_and_costs_nothing(
    context: DriverContext, hub: HubSimulator, working: Callable[[str, float], Job]
) -> None:
    driver = SpacesDriver(context)
    machine_id = launched(driver, working("kwz-me-paused-1", 600))
    until(driver, machine_id, Phase.RUNNING)
    driver._hub.call(lambda api: api.pause_space(machine_id))
    seen = driver.inspect(machine_id)
    assert (seen.phase, seen.usd_per_hour) == (Phase.EXITED, 0)
    assert hub.cloud.billing == []


def test_a_space_that_was_left_half_made_is_ambiguous_and_found(
    context: DriverContext, hub: HubSimulator
) -> None:
    """Its files were refused for certain, but the Space is there."""
    hub.server.interrupt("POST", "/api/spaces/.*/commit/main", Reply(400, {"error": "no"}))
    driver = SpacesDriver(context)
    meaning = refusal(driver, lambda: launched(driver, sample_job()))
    assert not meaning.nothing_was_created
    (found,) = driver.fleet()
    assert (found.phase, found.usd_per_hour) == (Phase.STARTING, 0)
    driver.terminate(found.machine_id)
    assert list(driver.fleet()) == []


def test_a_space_whose_page_nobody_answers_is_ended(
    context: DriverContext, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute_huggingface.simulator.spaces._ANSWERS_WITHIN_S", 0.5)
    mute = "FROM python:3.12\nCMD sleep 600\n"
    monkeypatch.setattr("kwanzaa_compute_huggingface.space_files.DOCKERFILE", mute)
    driver = SpacesDriver(context)
    machine_id = launched(driver, sample_job())
    assert "not healthy" in until(driver, machine_id, Phase.EXITED).detail
    assert hub.cloud.billing == []


def test_the_clouds_own_troubles_reach_the_driver_as_the_hub_words_them(tmp_path: Path) -> None:
    faults = Faults(rate_limited=1.0)
    with HubSimulator(tmp_path, faults=faults) as hub:
        driver = JobsDriver(DriverContext(hub.environment, Clock(), hub.endpoint))
        assert refusal(driver, lambda: launched(driver, sample_job())).retry_after_s == 20


# -- secrets ----------------------------------------------------------------------------------


def test_secrets_are_sent_as_secrets_and_shown_nowhere(
    driver: Driver, hub: HubSimulator, which: str
) -> None:
    show = "import os; print(len(os.environ['CODE_URL']), os.environ['PLAIN'], flush=True)"
    job = sample_job(
        argv=(sys.executable, "-c", f"{show}; import time; time.sleep(600)"),
        env={"PLAIN": "in the open"},
        secrets={"CODE_URL": Secret("signed-and-secret")},
    )
    machine_id = launched(driver, job)
    until(driver, machine_id, Phase.RUNNING)
    last = Clock().monotonic() + PATIENCE_S
    while not any("17 in the open" in line for line in driver.logs(machine_id)):
        assert Clock().monotonic() < last
    replies = [json.dumps(str(reply.body)) for _, reply in hub.server.exchanges]
    assert not [text for text in replies if "signed-and-secret" in text or TOKEN in text]
    holding = [r for r, _ in hub.server.exchanges if b"signed-and-secret" in r.body]
    assert [r.path for r in holding] == [
        "/api/jobs/loopback" if which == "jobs" else "/api/repos/create"
    ]
    assert not [r for r, _ in hub.server.exchanges if TOKEN.encode() in r.body]
    for repository in hub.repositories.all.values():
        for file in repository.files.values():
            assert b"signed-and-secret" not in file.content
            assert TOKEN.encode() not in file.content
    driver.terminate(machine_id)
