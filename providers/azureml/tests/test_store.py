"""The store at `az://` on real blob storage over TLS: its promises, and what refusals say."""

import os
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs
from urllib.request import urlopen

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import (
    CredentialsError,
    StoreDeniedError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
    UsageError,
)
from kwanzaa_compute.store import Store, StoredObject, objects, open_store
from kwanzaa_compute.store.objects import file_sha256
from kwanzaa_compute.testing.loopback.wire import Reply, WireServer
from kwanzaa_compute_azureml.simulated.azurite import Azurite

OTHER_KEY = "b2Ygc29tZWJvZHkgZWxzZQ=="


@pytest.fixture
def store(container: str, owner: Mapping[str, str]) -> Store:
    return open_store(f"{container}/runs/r1", owner)


def test_what_is_put_can_be_read_listed_and_removed(store: Store) -> None:
    for name in ("b/2", "b/1", "a", "bb/deep/3"):
        store.put(name, b"12")
    store.put("a", b"one")
    assert store.get("a") == b"one"
    assert store.exists("a")
    assert store.list("b") == [StoredObject("b/1", 2), StoredObject("b/2", 2)]
    assert [item.path for item in store.list()] == ["a", "b/1", "b/2", "bb/deep/3"]
    assert store.folders("bb") == ("bb/deep",)
    for _ in range(2):  # already absent is fine
        store.delete("a")
    assert not store.exists("a")
    with pytest.raises(StoreMissingError, match="there is no a in az://"):
        store.get("a")


def test_of_many_who_create_at_once_one_succeeds(store: Store) -> None:
    def create(number: int) -> bool:
        try:
            store.create("done.json", b"%d" % number)
        except StoreExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert store.get("done.json") == b"%d" % won.index(True)


def test_large_files_travel_in_blocks_with_their_hash(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(1 << 20) * 12)
    assert store.upload(source, "input/s.bin") == file_sha256(source)
    assert store.download("input/s.bin", tmp_path / "copy.bin") == file_sha256(source)


def test_a_name_with_odd_letters_comes_back_as_it_went(store: Store) -> None:
    """By a signed URL as well, which must be encoded as Azure decodes it."""
    name = "a b/größe+1%2Fx#?&=.json"
    store.put(name, b"odd")
    assert [item.path for item in store.list()] == [name]
    assert store.get(name) == b"odd"


@pytest.mark.parametrize("name", ["code/x.zip", "a b/größe+1%2Fx#&=.zip"])
def test_a_signed_url_opens_one_object_for_whoever_trusts_the_server(
    store: Store, azurite: Azurite, name: str
) -> None:
    trusts = ssl.create_default_context(cafile=str(azurite.authority.only))
    store.put(name, b"PK")
    store.put("other", b"1")
    url = store.signed_url(name, 1).reveal()
    with urlopen(url, context=trusts, timeout=20) as answer:
        assert answer.read() == b"PK"
    where, _, token = url.partition("?")
    since = datetime.fromisoformat(parse_qs(token)["st"][0])
    assert Clock().now() - since.timestamp() > 600, "a clock of ours that is ahead does no harm"
    other = f"{where[: where.index('/runs/r1/')]}/runs/r1/other?{token}"
    with pytest.raises(HTTPError) as caught:
        urlopen(other, context=trusts, timeout=20)
    assert caught.value.code == 403
    caught.value.close()


def test_keys_of_this_process_do_not_mix_with_those_of_a_simulation(
    container: str, owner: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "somebody")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", OTHER_KEY)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=other")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "https://127.0.0.1:1/somebody")
    store = open_store(f"{container}/runs/r1", owner)
    store.put("x", b"1")
    assert store.get("x") == b"1"
    assert store.signed_url("x", 1).reveal().startswith(owner["AZURE_STORAGE_ENDPOINT"])


# -- what is wrong is said in one line, with the right exit code ----------------------------------


def test_a_wrong_key_is_no_permission(container: str, owner: Mapping[str, str]) -> None:
    store = open_store(f"{container}/r1", {**owner, "AZURE_STORAGE_ACCOUNT_KEY": OTHER_KEY})
    for call in (lambda: store.put("x", b"1"), lambda: store.get("x"), lambda: store.exists("x")):
        with pytest.raises(StoreDeniedError, match="no permission for x in az://") as caught:
            call()
        assert caught.value.exit_code == 3
        assert OTHER_KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"AZURE_STORAGE_ACCOUNT_NAME": ""}, "name of its storage account"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "not base64!"}, "not what Azure gives out"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "", "AZURE_STORAGE_SAS_TOKEN": "x"}, "no signature"),
    ],
)
def test_what_cannot_be_right_is_said_before_anybody_is_asked(
    owner: Mapping[str, str], wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(CredentialsError, match=said):
        open_store("az://c/r1", {**owner, **wrong})


def test_what_the_client_reads_by_itself_is_never_shown(
    owner: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "half-a-key")
    with pytest.raises(CredentialsError, match="cannot be used") as caught:
        open_store("az://c/r1", {**owner, "AZURE_STORAGE_ACCOUNT_KEY": ""})
    assert "half-a-key" not in str(caught.value)


def test_a_container_that_does_not_exist_is_not_an_empty_one(owner: Mapping[str, str]) -> None:
    store = open_store("az://nobody-made-this/r1", owner)
    for call in (lambda: store.put("x", b"1"), lambda: store.get("x"), store.list):
        with pytest.raises(StoreError, match="no bucket or container for az://nobody") as caught:
            call()
        assert not isinstance(caught.value, StoreMissingError)


def test_a_server_that_nobody_trusts_is_not_spoken_to(
    container: str, owner: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_FOR_S", 1)
    store = open_store(f"{container}/r1", {**owner, "SSL_CERT_FILE": ""})
    with pytest.raises(StoreError, match="the store failed at x in az://"):
        store.put("x", b"1")


def test_certificates_that_cannot_be_read_are_named(owner: Mapping[str, str]) -> None:
    with pytest.raises(UsageError, match="/nowhere/roots"):
        open_store("az://c/r1", {**owner, "SSL_CERT_FILE": "/nowhere/roots.pem"})


SKEWED = b"""<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code>
<Message>Server failed to authenticate the request.</Message><AuthenticationErrorDetail>Request date
header too old: 'Tue, 24 Nov 2026 10:00:00 GMT'</AuthenticationErrorDetail></Error>"""


def test_a_clock_that_is_wrong_is_named_among_the_causes(owner: Mapping[str, str]) -> None:
    """Azure refuses a request whose date is a quarter of an hour off; its emulator does not."""
    refused = Reply(403, SKEWED, {"Content-Type": "application/xml"})
    with WireServer(lambda _request: refused) as server:
        here = {"AZURE_STORAGE_ENDPOINT": f"{server.url}/simulated", "AZURE_ALLOW_HTTP": "true"}
        store = open_store("az://c/r1", {**owner, **here})
        with pytest.raises(StoreDeniedError, match="AuthenticationFailed") as caught:
            store.put("x", b"1")
    assert "clock" in caught.value.mend
    assert len(str(caught.value).splitlines()) == 2
