"""What each of RunPod's answers means to the caller."""

import json

import pytest

from kwanzaa_compute.drivers.http import NoAnswerError, ReplyError, StatusError
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute_runpod.refusals import CREATE, meaning

NOW = 1_700_000_000.0
READ = "GET /v2/pods"


def answer(status: int, detail: str, call: str = CREATE, **more: object) -> StatusError:
    body = {"title": "x", "status": status, "detail": detail, **more}
    return StatusError(status, {}, json.dumps(body).encode(), call)


SOLD_OUT = [
    "There are no longer any instances available with the requested specifications. Please refresh",
    "There are no longer any instances available with enough disk space.",
    "There are no instances currently available.",
    "create pod: no instances available",
    "This machine does not have the resources to deploy your pod. Please try a different machine",
    "could not find any pods with required specifications",
    "There are not enough free GPUs on the host machine to start this pod.",
    "Something else that nobody has seen yet",
]
RULES = [
    "minCudaVersion and allowedCudaVersions are mutually exclusive",
    "exactly one of gpu or cpu must be set",
    "invalid gpu type NVIDIA Nothing",
    "image is required unless templateId is set",
    "global networking is not supported in this data center",
]


@pytest.mark.parametrize("words", SOLD_OUT)
def test_no_capacity_means_the_next_offer(words: str) -> None:
    said = meaning(answer(400, words), NOW)
    assert isinstance(said, CapacityError)
    assert said.nothing_was_created


@pytest.mark.parametrize("words", RULES)
def test_a_broken_rule_is_never_tried_again(words: str) -> None:
    said = meaning(answer(400, words), NOW)
    assert isinstance(said, InvalidRequestError)
    assert words in said.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer(400, "This would pass your spend limit of $80/hr"), QuotaError),
        (answer(400, "anything", READ), InvalidRequestError),
        (answer(401, "Unauthorized"), CredentialsError),
        (answer(401, "Unauthorized", READ), CredentialsError),
        (answer(402, "Your balance is too low"), QuotaError),
        (answer(403, "access denied"), CredentialsError),
        (answer(403, "access denied", READ), CredentialsError),
        (answer(403, "your account cannot access the requested pool"), CapacityError),
        (answer(403, "your account cannot access the requested pool", READ), CredentialsError),
        (answer(404, "template not found"), InvalidRequestError),
        (answer(422, "Request validation failed."), InvalidRequestError),
        (answer(429, "rate limit exceeded"), TransientError),
    ],
)
def test_a_refusal_created_nothing(error: StatusError, kind: type[ProviderError]) -> None:
    said = meaning(error, NOW)
    assert type(said) is kind
    assert said.nothing_was_created


@pytest.mark.parametrize("status", [302, 408, 409, 425, 500, 502, 503, 504, 520, 599])
def test_every_other_status_leaves_it_open(status: int) -> None:
    """Also RunPod's own 500s, whatever they say: machines were made by such creates."""
    for words in ("no instances available", "Something went wrong."):
        said = meaning(answer(status, words), NOW)
        assert type(said) is TransientError
        assert not said.nothing_was_created


def test_an_answer_that_never_came_is_open_unless_nothing_was_sent() -> None:
    assert not meaning(NoAnswerError("x", sent=True), NOW).nothing_was_created
    assert meaning(NoAnswerError("x", sent=False), NOW).nothing_was_created
    assert not meaning(ReplyError("x"), NOW).nothing_was_created


@pytest.mark.parametrize(
    ("value", "seconds"), [("12", 12.0), ("0", 0.0), ("", None), ("soon", None), ("1e99", 3600.0)]
)
def test_a_rate_limit_says_how_long(value: str, seconds: float | None) -> None:
    error = StatusError(429, {"retry-after": value}, b"{}", CREATE)
    assert meaning(error, NOW).retry_after_s == seconds


def test_what_a_422_lists_is_passed_on() -> None:
    said = meaning(answer(422, "Request validation failed.", errors=["disk: missing", 7]), NOW)
    assert "disk: missing; 7" in said.message


@pytest.mark.parametrize("content", [b"", b"<html>\x1b[31m", b"[]", b'{"detail": [1]}', b"{}"])
def test_a_refusal_without_words_has_a_message_all_the_same(content: bytes) -> None:
    said = meaning(StatusError(400, {}, content, CREATE), NOW)
    assert said.message.startswith("RunPod (POST /v2/pods, 400)")
    assert "\x1b" not in said.message


def test_words_are_short_and_on_one_line() -> None:
    said = meaning(answer(400, "no\r\ncapacity " + "x" * 10_000), NOW)
    assert len(said.message) < 400
    assert "\n" not in said.message


def test_one_of_our_own_errors_stays_what_it_is() -> None:
    own = QuotaError("mine")
    assert meaning(own, NOW) is own
