"""A machine's right to a store at `az://`, held against real blob storage."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import StoreDeniedError, StoreExistsError
from kwanzaa_compute.store import Store, open_store
from kwanzaa_compute.store.grants import StoreGrant, grant
from kwanzaa_compute_azureml.simulated.azurite import Azurite

HOUR_S = 3600.0


def opened(url: str, made: StoreGrant, azurite: Azurite) -> Store:
    """The store as a machine opens it: with what it is given, and what its image trusts."""
    secrets = {name: secret.reveal() for name, secret in made.secrets.items()}
    image = {"SSL_CERT_FILE": str(azurite.authority.bundle)}
    return open_store(url, {**image, **made.variables, **secrets})


def test_a_machine_can_do_all_that_a_run_needs(
    container: str, owner: Mapping[str, str], azurite: Azurite, tmp_path: Path
) -> None:
    url = f"{container}/runs/r1"
    open_store(url, owner).put("input/config.json", b"{}")
    made = grant(url, owner, hours=2, now=Clock().now())
    assert set(made.secrets) == {"AZURE_STORAGE_SAS_TOKEN"}
    assert azurite.key not in str([s.reveal() for s in made.secrets.values()])
    store = opened(url, made, azurite)
    assert store.get("input/config.json") == b"{}"
    store.put("attempts/1/heartbeat.json", b"1")
    store.put("attempts/1/heartbeat.json", b"2")
    store.create("done.json", b"{}")
    with pytest.raises(StoreExistsError):
        store.create("done.json", b"again")
    store.delete("attempts/1/heartbeat.json")
    large = tmp_path / "adapter.safetensors"
    large.write_bytes(bytes(6 << 20))  # more than one block
    store.upload(large, "adapter/adapter.safetensors")
    names = [item.path for item in store.list()]
    assert names == ["adapter/adapter.safetensors", "done.json", "input/config.json"]


def test_it_reaches_no_other_container(
    container: str, owner: Mapping[str, str], azurite: Azurite
) -> None:
    """Within the container Azure knows no narrower right: runs get a container of their own."""
    azurite.create_container("of-others", Clock().now())
    open_store("az://of-others", owner).put("theirs", b"1")
    made = grant(f"{container}/runs/r1", owner, hours=2, now=Clock().now())
    store = opened("az://of-others", made, azurite)
    for call in (lambda: store.get("theirs"), lambda: store.put("x", b"1"), store.list):
        with pytest.raises(StoreDeniedError, match=r"no permission for .* in az://of-others"):
            call()
    assert open_store("az://of-others", owner).get("theirs") == b"1"


@pytest.mark.parametrize(
    ("ago_s", "holds"),
    [
        (0.0, True),
        (-14 * 60.0, True),  # our clock is ahead of Azure's, by less than we allow for
        (-16 * 60.0, False),  # and by more
        (1.4 * HOUR_S, True),  # within the margin after its hour
        (1.6 * HOUR_S, False),
    ],
)
def test_it_holds_from_a_little_before_now_until_a_little_after_its_hours(
    container: str, owner: Mapping[str, str], azurite: Azurite, *, ago_s: float, holds: bool
) -> None:
    made = grant(container, owner, hours=1, now=Clock().now() - ago_s)
    store = opened(container, made, azurite)
    if holds:
        store.put("x", b"1")
        assert store.get("x") == b"1"
        return
    with pytest.raises(StoreDeniedError, match=r"no permission for x in .* \(Auth") as caught:
        store.put("x", b"1")
    assert caught.value.exit_code == 3


def test_a_right_of_the_users_own_making_is_handed_on_as_it_is(
    container: str,
    owner: Mapping[str, str],
    azurite: Azurite,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the portal shows it, with a question mark in front."""
    for name in ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    token = grant(container, owner, hours=1, now=Clock().now()).secrets["AZURE_STORAGE_SAS_TOKEN"]
    limited = {**owner, "KWANZAA_STORE_SAS": f"?{token.reveal()}", "AZURE_STORAGE_ACCOUNT_KEY": ""}
    store = opened(container, grant(container, limited, hours=0.5, now=Clock().now()), azurite)
    store.put("x", b"1")
    assert store.get("x") == b"1"
    # Its user, who may have no more than `az login`, sends the machine its code by the same right.
    url = open_store(container, limited).signed_url("x", 1).reveal()
    trusts = ssl.create_default_context(cafile=str(azurite.authority.only))
    with urlopen(url, context=trusts, timeout=20) as answer:
        assert answer.read() == b"1"


def test_no_signature_stands_in_what_a_failure_says(
    container: str, owner: Mapping[str, str], azurite: Azurite
) -> None:
    made = grant("az://elsewhere", owner, hours=1, now=Clock().now())
    token = made.secrets["AZURE_STORAGE_SAS_TOKEN"].reveal()
    signature = token.partition("sig=")[2]
    store = opened(container, made, azurite)
    with pytest.raises(StoreDeniedError) as caught:
        store.put("x", b"1")
    assert caught.value.__cause__ is None
    for text in (str(caught.value), repr(caught.value), repr(store), repr(made)):
        assert signature not in text
        assert unquote(signature) not in text


def test_who_holds_a_signature_alone_cannot_sign_and_is_told_what_to_set(
    container: str, owner: Mapping[str, str], azurite: Azurite
) -> None:
    """Its own signature is for the whole container: it is not passed on inside a URL."""
    store = opened(container, grant(container, owner, hours=1, now=Clock().now()), azurite)
    with pytest.raises(StoreDeniedError, match="cannot sign") as caught:
        store.signed_url("x", 1)
    assert "AZURE_STORAGE_ACCOUNT_KEY" in caught.value.mend
