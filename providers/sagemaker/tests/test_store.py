"""The store in S3 takes its keys from the environment that it is given, and from no other."""

import pytest

from kwanzaa_compute.errors import StoreMissingError
from kwanzaa_compute.store import ObjectStore, open_store
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator


def test_keys_of_this_process_do_not_mix_with_those_of_a_simulation(
    simulator: SageMakerSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the session token, which the simulated user lacks: it would sign every URL."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of-somebody-else")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = open_store(f"{simulator.store_url}/runs/r1", simulator.environment)
    assert isinstance(store, ObjectStore)
    store.put("a/x", b"one")
    assert store.get("a/x") == b"one"
    assert [item.path for item in store.list()] == ["a/x"]
    url = store.signed_url("a/x", 1).reveal()
    assert url.startswith(simulator.moto.url)
    assert "of-somebody-else" not in url
    store.delete("a/x")
    with pytest.raises(StoreMissingError):
        store.get("a/x")
