"""The records that machine and watcher exchange."""

import json
from pathlib import Path

import pytest

from kwanzaa_compute.errors import StoreError, StoreExistsError
from kwanzaa_compute.store import Done, Failure, Heartbeat, RunFolder, StopRequest, open_store
from kwanzaa_compute.store.folder import member_url


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(open_store(tmp_path.as_uri()))


def test_every_record_comes_back_as_it_was(folder: RunFolder) -> None:
    beat = Heartbeat(sequence=3, phase="train", attempt=2, step=5, loss=1.25)
    failure = Failure(attempt=2, message="no", retryable=False, mend="do")
    folder.put_heartbeat(beat)
    folder.put_failure(failure)
    folder.put_stop_request(StopRequest(2, "asked"))
    folder.put_done(Done(2, 9, {"a": "b"}, {"loss": 1.0}))
    assert folder.heartbeat(2) == beat
    assert folder.failure(2) == failure
    assert folder.stop_request() == StopRequest(2, "asked")
    assert folder.done() == Done(2, 9, {"a": "b"}, {"loss": 1.0})


def test_what_was_never_written_is_none(folder: RunFolder) -> None:
    assert folder.heartbeat(1) is folder.failure(1) is folder.done() is None
    assert folder.stop_request() is None
    assert folder.resume_point() is None
    assert folder.log(1) == []
    assert folder.attempts() == []


def test_a_log_is_read_as_the_trainer_printed_it(folder: RunFolder) -> None:
    said = {"time": "T", "level": "info", "message": "loading"}
    worse = {**said, "level": "error", "message": "no disk"}
    lines = [*(json.dumps(record) for record in (said, worse)), '{"level": 1}', "torn {"]
    folder.store.put("attempts/1/log.jsonl", "\n".join(lines).encode())
    assert folder.log(1) == ["T loading", "T ERROR: no disk", '{"level": 1}', "torn {"]


def test_a_run_is_done_once(folder: RunFolder) -> None:
    folder.put_done(Done(1, 9, {}))
    with pytest.raises(StoreExistsError):
        folder.put_done(Done(2, 9, {}))


def test_a_stop_request_can_be_taken_back(folder: RunFolder) -> None:
    folder.put_stop_request(StopRequest(1, "asked"))
    folder.clear_stop_request()
    folder.clear_stop_request()
    assert folder.stop_request() is None


def test_a_newer_trainer_may_say_more(folder: RunFolder) -> None:
    folder.store.put(
        "attempts/1/heartbeat.json", b'{"sequence":1,"phase":"train","attempt":1,"new":2}'
    )
    assert folder.heartbeat(1) == Heartbeat(1, "train", 1)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"phase":"train"}', b"\xff", b"null"])
def test_a_record_that_cannot_be_read_is_an_error_and_not_absence(
    folder: RunFolder, data: bytes
) -> None:
    folder.store.put("attempts/1/heartbeat.json", data)
    with pytest.raises(StoreError, match="heartbeat in the store cannot be read"):
        folder.heartbeat(1)


def test_metrics_of_a_resumed_step_are_the_newest_ones(folder: RunFolder) -> None:
    first = b'{"step":1,"kind":"train","loss":3}\n{"step":2,"kind":"train","loss":2}\n{"step":2,'
    second = b'{"step":2,"kind":"train","loss":2.5}\n{"step":2,"kind":"eval","loss":1}\n'
    folder.store.put("attempts/9/metrics.jsonl", first)
    folder.store.put("attempts/10/metrics.jsonl", second)
    assert [(r["step"], r["kind"], r["loss"]) for r in folder.metrics()] == [
        (1, "train", 3),
        (2, "eval", 1),
        (2, "train", 2.5),
    ]
    assert folder.attempts() == [9, 10]


def test_a_run_of_several_adapters_names_its_members(folder: RunFolder) -> None:
    assert folder.member_names() == ()
    folder.put_member_names(["olmo-7b", "qwen2.5-7b"])
    assert folder.member_names() == ("olmo-7b", "qwen2.5-7b")
    assert member_url("s3://b/runs/r/", "olmo-7b") == "s3://b/runs/r/members/olmo-7b"


@pytest.mark.parametrize("names", [[], ["../x"], ["a/b"], [""], ["a", "a"], ["A"], ["-a"], [".."]])
def test_what_cannot_be_a_folders_name_names_no_member(folder: RunFolder, names: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot name members"):
        folder.put_member_names(names)
