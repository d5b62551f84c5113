"""What a job's status and the run history mean."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute_azureml.replies import (
    ENDED,
    REMEMBERED_S,
    Ending,
    JobView,
    ending_of,
    sighting_of,
)

NOW = 1_800_000_000.0
FAILED = {
    "error": {
        "error": {
            "code": "UserError",
            "message": "Execution failed. User process '/bin/bash' exited with status code 7. See",
        }
    },
    "startTimeUtc": "2027-01-15T07:58:20.1234567Z",
    "endTimeUtc": "2027-01-15T07:59:59Z",
}


def seen(status: str, ending: Ending | None = None, **more: Any) -> tuple[Phase, Any]:
    words: dict[str, Any] = {"ended_by_us": False, "has_run": False, **more}
    job = JobView("kwz-me-r-1", status, timeout_s=3600)
    sighting = sighting_of(job, NOW, ending=ending, **words)
    return sighting.phase, sighting.exit_code


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("NotStarted", (Phase.QUEUED, None)),
        ("Queued", (Phase.QUEUED, None)),
        ("Starting", (Phase.STARTING, None)),
        ("Provisioning", (Phase.STARTING, None)),
        ("Preparing", (Phase.STARTING, None)),
        ("Running", (Phase.RUNNING, None)),
        ("Finalizing", (Phase.STOPPING, None)),
        ("CancelRequested", (Phase.STOPPING, None)),
        ("Completed", (Phase.EXITED, 0)),
        ("Failed", (Phase.EXITED, None)),
        ("Canceled", (Phase.PREEMPTED, None)),
        ("NotResponding", (Phase.RUNNING, None)),
        ("Paused", (Phase.RUNNING, None)),
        ("Unknown", (Phase.RUNNING, None)),
        ("SomethingNew", (Phase.RUNNING, None)),
    ],
)
def test_what_a_status_means(status: str, expected: tuple[Phase, int | None]) -> None:
    assert seen(status) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK warns of its own past
def test_every_status_of_the_sdk_has_a_meaning_and_none_that_may_bill_is_gone() -> None:
    from azure.ai.ml.operations._run_history_constants import JobStatus, RunHistoryConstants

    for name, status in vars(JobStatus).items():
        if name.isupper():
            assert seen(status)[0] is not Phase.GONE
    over = set(RunHistoryConstants.TERMINAL_STATUSES)
    assert over >= ENDED
    assert {"NotResponding", "Paused"} == over - ENDED  # the SDK stops looking; Azure may bill


def test_a_job_that_ran_and_waits_again_has_lost_its_machine() -> None:
    assert seen("Queued", has_run=True) == (Phase.PREEMPTED, None)
    assert seen("Preparing", has_run=True) == (Phase.PREEMPTED, None)
    assert seen("Running", has_run=True) == (Phase.RUNNING, None)


def test_a_cancelled_job_was_taken_back_or_ran_out_of_time_or_was_ended_by_us() -> None:
    assert seen("Canceled", Ending("", NOW - 60, NOW - 1)) == (Phase.PREEMPTED, None)
    assert seen("Canceled", Ending("", NOW - 3601, NOW - 1)) == (Phase.EXITED, None)
    assert seen("Canceled", ended_by_us=True) == (Phase.GONE, None)
    # What we asked for and is not over yet may still bill.
    assert seen("CancelRequested", ended_by_us=True) == (Phase.STOPPING, None)


def test_a_job_without_a_machine_after_all_is_no_crash_of_ours() -> None:
    reason = Ending("ServiceError: AllocationFailed: there is not enough capacity")
    assert seen("Failed", reason) == (Phase.PREEMPTED, None)


def test_the_run_history_says_why_and_when() -> None:
    ending = ending_of(FAILED)
    assert ending.ended_at == datetime(2027, 1, 15, 7, 59, 59, tzinfo=UTC).timestamp()
    assert seen("Failed", ending) == (Phase.EXITED, 7)
    old = Ending(ending.reason, NOW - 9000, NOW - REMEMBERED_S - 1)
    assert seen("Failed", old) == (Phase.GONE, None)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        "",
        {"error": "x"},
        {"error": {"error": 3}},
        {"endTimeUtc": "soon"},
        {"endTimeUtc": 7},
    ],
)
def test_a_history_that_makes_no_sense_says_nothing(odd: Any) -> None:
    assert ending_of(odd) == Ending()


def test_others_words_are_one_short_line() -> None:
    job = JobView("kwz-me-r-1", "Failed")
    ending = Ending("\x1b[2J a\nb" + "x" * 2000)
    detail = sighting_of(job, NOW, ending=ending, ended_by_us=False, has_run=False).detail
    assert detail.isprintable()
    assert len(detail) <= 300
