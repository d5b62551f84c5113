"""`hf://`: a storage bucket through its S3 gateway, played by moto's S3 on loopback."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.errors import (
    CredentialsError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
    UsageError,
)
from kwanzaa_compute.store import Done, Heartbeat, ObjectStore, RunFolder, open_store
from kwanzaa_compute.store.grants import grant, grant_hours
from kwanzaa_compute.store.objects import file_sha256
from kwanzaa_compute_huggingface.simulator.gateway import KEY_ID, SECRET_KEY, BucketGateway

URL = "hf://buckets/me/runs/all/r1"


@pytest.fixture(scope="module")
def started() -> Iterator[BucketGateway]:
    with BucketGateway("me", "runs") as gateway:
        yield gateway


@pytest.fixture
def gateway(started: BucketGateway, monkeypatch: pytest.MonkeyPatch) -> BucketGateway:
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    # A user of S3 has these; none of them may reach Hugging Face.
    for name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "OFANOTHERCLOUD")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    started.keys = {KEY_ID}
    started.server.exchanges.clear()
    return started


@pytest.fixture
def store(gateway: BucketGateway) -> Iterator[ObjectStore]:
    store = open_store(URL)
    yield store
    gateway.keys = {KEY_ID}
    for item in store.list():
        store.delete(item.path)


def test_objects_are_put_read_listed_and_deleted(store: ObjectStore) -> None:
    store.put("a/x", b"one")
    store.put("a/x", b"two")
    store.put("b", b"three")
    assert store.get("a/x") == b"two"
    assert [(item.path, item.size) for item in store.list()] == [("a/x", 3), ("b", 5)]
    store.delete("a/x")
    store.delete("a/x")
    assert not store.exists("a/x")
    with pytest.raises(StoreMissingError):
        store.get("a/x")


def test_the_done_marker_is_written_once(store: ObjectStore) -> None:
    folder = RunFolder(store)
    folder.put_done(Done(1, 8, {}))
    with pytest.raises(StoreExistsError):
        folder.put_done(Done(2, 8, {}))
    done = folder.done()
    assert done is not None
    assert done.attempt == 1


def test_heartbeats_replace_one_another(store: ObjectStore) -> None:
    folder = RunFolder(store)
    for sequence in range(3):
        folder.put_heartbeat(Heartbeat(sequence, "train", attempt=1))
    beat = folder.heartbeat(1)
    assert beat is not None
    assert beat.sequence == 2


def test_files_in_several_parts_travel_both_ways(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "state.safetensors"
    source.write_bytes(bytes(range(256)) * 80_000)
    assert store.upload(source, "checkpoints/state") == file_sha256(source)
    assert store.download("checkpoints/state", tmp_path / "copy") == file_sha256(source)


def test_a_signed_url_needs_no_key(store: ObjectStore) -> None:
    store.put("code/x.zip", b"code")
    url = store.signed_url("code/x.zip", hours=2.0).reveal()
    assert SECRET_KEY not in url
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"code"


def test_nothing_of_another_clouds_keys_reaches_the_gateway(
    store: ObjectStore, gateway: BucketGateway
) -> None:
    store.put("x", b"1")
    store.get("x")
    said = [str(request) for request, _ in gateway.server.exchanges]
    assert said
    assert not [text for text in said if "OFANOTHERCLOUD" in text]
    assert not [text for text in said if SECRET_KEY in text]


def test_objects_are_deleted_one_by_one(store: ObjectStore, gateway: BucketGateway) -> None:
    store.put("x", b"1")
    store.delete("x")
    methods = [(request.method, request.query) for request, _ in gateway.server.exchanges]
    assert ("DELETE", {}) in methods
    assert not [query for _, query in methods if "delete" in query]


def test_keys_that_were_taken_back_are_an_error_without_a_key_in_it(
    store: ObjectStore, gateway: BucketGateway
) -> None:
    gateway.keys = set()
    with pytest.raises(StoreError) as caught:
        store.put("x", b"1")
    assert "permission" in str(caught.value)
    assert SECRET_KEY not in str(caught.value)
    assert KEY_ID not in str(caught.value)


def test_without_keys_it_is_said_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_S3_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("HF_S3_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(CredentialsError, match="HF_S3_ACCESS_KEY_ID") as caught:
        open_store(URL)
    assert "Generate S3 credentials" in caught.value.mend


@pytest.mark.parametrize("url", ["hf://me/runs", "hf://buckets/me", "hf://models/me/runs", "hf://"])
def test_a_url_that_is_no_bucket_is_refused(gateway: BucketGateway, url: str) -> None:
    with pytest.raises(UsageError, match="not a storage bucket") as caught:
        open_store(url)
    assert "hf://buckets/" in caught.value.mend


def test_a_machine_gets_the_keys_of_the_bucket_and_the_gateways_address(
    gateway: BucketGateway,
) -> None:
    environment = {**gateway.environment, "HF_TOKEN": "hf_thataccountsowntoken"}
    held = grant(URL, environment, hours=100.0, now=0.0)
    assert held.hours is None
    assert {name: secret.reveal() for name, secret in held.secrets.items()} == {
        "HF_S3_ACCESS_KEY_ID": KEY_ID,
        "HF_S3_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    assert held.variables == {"HF_S3_ENDPOINT": gateway.server.url}


def test_without_keys_no_right_can_be_made() -> None:
    with pytest.raises(CredentialsError, match="S3 keys"):
        grant_hours(URL, {"HF_TOKEN": "hf_thataccountsowntoken"}, now=0.0)
