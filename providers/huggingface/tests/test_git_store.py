"""`hf://datasets`: the slower store, over a git repository of the simulated Hub."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import (
    CredentialsError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
    UsageError,
)
from kwanzaa_compute.store import Done, RunFolder, Store, open_store
from kwanzaa_compute.store.grants import grant, grant_hours
from kwanzaa_compute.store.hf_git import SQUASHED_EVERY, GitStore
from kwanzaa_compute.store.hub_http import RETRY_FOR_S, HubHttp
from kwanzaa_compute.store.objects import file_sha256
from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN
from kwanzaa_trainer.settings import Settings

URL = "hf://datasets/loopback/runs/all/r1"
LARGE = "checkpoints/ckpt-2-1/state.safetensors"


@pytest.fixture
def store(hub: HubSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    from huggingface_hub import HfApi

    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("KWANZAA_STORE_TOKEN", TOKEN)
    HfApi(endpoint=hub.endpoint, token=TOKEN).create_repo(
        "loopback/runs", repo_type="dataset", private=True
    )
    return open_store(URL)


def commits(hub: HubSimulator) -> int:
    return len(hub.repositories.all["dataset", "loopback/runs"].commits)


def test_objects_are_put_read_listed_and_deleted(store: Store) -> None:
    assert store.list() == []
    store.put("a/x.json", b"one")
    store.put("a/x.json", b"two")
    store.put("b ü", b"three")
    assert store.get("a/x.json") == b"two"
    assert [(item.path, item.size) for item in store.list()] == [("a/x.json", 3), ("b ü", 5)]
    assert [item.path for item in store.list("a")] == ["a/x.json"]
    store.delete("a/x.json")
    store.delete("a/x.json")
    assert not store.exists("a/x.json")
    with pytest.raises(StoreMissingError):
        store.get("a/x.json")


def test_the_done_marker_is_written_once(store: Store) -> None:
    folder = RunFolder(store)
    folder.put_done(Done(1, 8, {}))
    with pytest.raises(StoreExistsError):
        folder.put_done(Done(2, 8, {}))
    done = folder.done()
    assert done is not None
    assert done.attempt == 1


def test_of_two_that_write_the_done_marker_one_finds_it_there(
    hub: HubSimulator, store: Store
) -> None:
    """The other's commit came between the look and the commit."""

    def another_first(request: Request) -> Reply:
        open_store(URL).put("done.json", b"theirs")
        return hub.server.answer(request)

    hub.server.interrupt("POST", "/api/datasets/.*/commit/main", another_first)
    with pytest.raises(StoreExistsError):
        store.create("done.json", b"mine")
    assert store.get("done.json") == b"theirs"


def test_large_files_travel_both_ways_and_the_token_does_not(
    hub: HubSimulator, store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "state.safetensors"
    source.write_bytes(bytes(range(256)) * 4_000)
    assert store.upload(source, LARGE) == file_sha256(source)
    assert store.download(LARGE, tmp_path / "copy") == file_sha256(source)
    assert store.get(LARGE) == source.read_bytes()
    assert [item.size for item in store.list("checkpoints")] == [len(source.read_bytes())]
    storage = hub.repositories._large.server.exchanges
    assert {request.method for request, _ in storage} >= {"PUT", "GET"}
    assert not [request for request, _ in storage if "authorization" in request.headers]


def test_a_signed_url_needs_no_token(store: Store) -> None:
    store.put("code/abc.zip", b"code")
    url = store.signed_url("code/abc.zip", hours=1.0).reveal()
    assert TOKEN not in url
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"code"
    with pytest.raises(StoreMissingError):
        store.signed_url("code/nothing.zip", hours=1.0)


def test_the_history_is_squashed_again_and_again(hub: HubSimulator, store: Store) -> None:
    for number in range(SQUASHED_EVERY):
        store.put("attempts/1/heartbeat.json", b"%d" % number)
    assert commits(hub) == 1
    assert store.get("attempts/1/heartbeat.json") == b"%d" % (SQUASHED_EVERY - 1)


def test_a_busy_hub_is_asked_again_when_it_says_so(hub: HubSimulator, store: Store) -> None:
    pauses: list[float] = []
    patient = GitStore(URL, HubHttp(hub.endpoint, TOKEN, Clock(sleep=pauses.append)))
    for answer in (Reply(429, {}, {"Retry-After": "33"}), Reply(503, b""), Reply(dropped=True)):
        hub.server.interrupt("POST", "/api/datasets/.*/commit/main", answer)
    patient.put("x.json", b"1")
    assert store.get("x.json") == b"1"
    assert pauses[0] == 33
    assert len(pauses) == 3


def test_a_hub_that_stays_busy_is_an_error_in_the_end(hub: HubSimulator, store: Store) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        hub.server.interrupt("GET", "/.*", Reply(429, {}))

    clock = Clock(monotonic=lambda: now[0], sleep=sleep)
    impatient = GitStore(URL, HubHttp(hub.endpoint, TOKEN, clock))
    hub.server.interrupt("GET", "/.*", Reply(429, {}))
    with pytest.raises(StoreError, match="429"):
        impatient.get("x.json")
    assert now[0] <= RETRY_FOR_S


def test_a_token_that_was_revoked_is_an_error_and_no_absence(
    hub: HubSimulator, store: Store
) -> None:
    store.put("x.json", b"1")
    hub.tokens.clear()
    for call in (
        lambda: store.get("x.json"),
        lambda: store.exists("x.json"),
        store.list,
        lambda: store.put("x.json", b"2"),
    ):
        with pytest.raises(StoreError, match="no permission") as caught:
            call()
        assert not isinstance(caught.value, StoreMissingError)
        assert TOKEN not in str(caught.value)


def test_a_machine_gets_a_token_of_its_own_or_none(hub: HubSimulator) -> None:
    own = {"HF_TOKEN": "hf_thataccountsowntoken", "HF_ENDPOINT": hub.endpoint}
    with pytest.raises(CredentialsError, match="KWANZAA_STORE_TOKEN"):
        grant_hours(URL, own, now=0.0)
    held = grant(URL, {**own, "KWANZAA_STORE_TOKEN": "hf_limited"}, hours=100.0, now=0.0)
    assert {n: s.reveal() for n, s in held.secrets.items()} == {"KWANZAA_STORE_TOKEN": "hf_limited"}
    assert held.variables == {"HF_ENDPOINT": hub.endpoint}


@pytest.mark.parametrize("url", ["hf://datasets/me", "hf://datasets/", "hf://datasets//x"])
def test_a_url_that_is_no_repository_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no data set"):
        open_store(url)


def test_without_a_token_it_is_said_where_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KWANZAA_STORE_TOKEN", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CredentialsError, match="needs a token") as caught:
        open_store(URL)
    assert "settings/tokens" in caught.value.mend


def test_heartbeats_are_five_minutes_apart_here() -> None:
    assert Settings.from_environment(URL, {}).heartbeat_s == 300.0
    assert Settings.from_environment("hf://buckets/me/runs/r1", {}).heartbeat_s == 10.0


def test_a_path_that_climbs_out_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="not a path"):
        store.put("../../other/x", b"1")


def test_what_it_shows_of_itself_is_its_place(store: Store) -> None:
    assert repr(store) == f"GitStore({URL!r})"
    assert TOKEN not in repr(HubHttp("https://hub", TOKEN))
