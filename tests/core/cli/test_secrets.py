"""A provider that repeats our key in everything it says: the key comes out nowhere."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.errors import CredentialsError, ProviderError

Cli = Callable[..., Any]
KEY = "canary-0f2c61b7-of-the-moon"


class ChattyError(Exception):
    """As SDKs raise them: with the request, and the key in it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"401 for https://moonbase.invalid/{what}?api_key={KEY}")
        self.key = KEY


@pytest.fixture
def chatty(moonbase: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The provider fails at everything, and says our key each time."""
    import importlib

    monkeypatch.setenv("MOONBASE_KEY", KEY)
    driver = importlib.import_module(moonbase).Driver

    def failing(what: str) -> Callable[..., Any]:
        def fail(*_args: object) -> Any:
            raise ChattyError(what)

        return fail

    for call in ("launch", "inspect", "fleet", "terminate"):
        monkeypatch.setattr(driver, call, failing(call))

    def classify(_self: object, error: Exception) -> ProviderError:
        return CredentialsError(
            f"refused: {error}", mend=f"look at {KEY}", nothing_was_created=True
        )

    monkeypatch.setattr(driver, "classify", classify)
    yield moonbase
    sys.modules.pop(moonbase, None)


def test_no_command_shows_or_keeps_a_key_that_a_provider_repeats(
    cli: Cli, config: Path, chatty: str, home: Path, tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    buy = (config, "--provider", chatty, "--max-usd", "5")
    told = [
        cli("plan", *buy, "--report", page, "--debug"),
        cli("train", *buy, "--yes", "--debug"),
    ]
    assert told[-1].code == 3
    (run,) = kc.Compute().runs()
    commands = (
        ("runs", "--all"),
        ("show", run.id),
        ("show", run.id, "--json"),
        ("logs", run.id),
        ("monitor", run.id),
        ("providers", "--json"),
        ("doctor",),
        ("gc",),
        ("gc", "--json"),
        ("resume", run.id),
        ("watch", "--once"),
        ("terminate", "--all"),
    )
    told += [cli(*words, "--debug") for words in commands]
    assert any("refused: 401" in result.err + result.out for result in told)
    for result in told:
        assert KEY not in result.out + result.err
    assert page.is_file()
    files = [path for path in (*home.rglob("*"), page) if path.is_file()]
    assert any(path.name.startswith("ledger.sqlite") for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_no_exception_carries_a_key_that_a_provider_repeats(home: Path, chatty: str) -> None:
    import traceback

    provider = kc.Compute().provider(chatty)
    with pytest.raises(CredentialsError) as caught:
        provider.fleet()
    error = caught.value
    shown = "".join(traceback.format_exception(error))
    assert KEY not in shown
    assert KEY not in repr(error) + str(error) + repr(error.args) + error.mend
    assert error.__cause__ is None


def test_a_machine_of_ours_gets_no_key_whatever_its_name_begins_with(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NVIDIA_API_KEY", "KWANZAA_MOON_TOKEN", "CUDA_SECRET", "HF_HUB_TOKEN"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "0")
    from kwanzaa_compute.testing.samples import sample_job

    driver: Any = kc.Compute().provider("local").driver
    environment = driver._environment_of(sample_job())
    assert KEY not in environment.values()
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "0"
    assert environment["PATH"] == os.environ["PATH"]
