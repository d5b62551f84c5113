"""A store that is none: said where it was named, before anything is looked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
WRONG = ["ftp://host/runs", "http://host/runs", "s3:/bucket/runs", "s3://", "az://c/x?sig=SECRET"]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("command", ["plan", "train", "validate"])
def test_a_wrong_store_in_the_config_is_named_with_its_line(
    cli: Cli, config: Path, url: str, command: str
) -> None:
    config.write_text(f"{config.read_text()}compute:\n  store: {url!r}\n")
    result = cli(command, config, *(["--provider", "local"] if command != "validate" else []))
    assert result.code == 2, result.err + result.out
    said = result.err + result.out
    assert f"{config}:{len(config.read_text().splitlines())}: compute.store" in said
    assert "SECRET" not in said


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_store_on_the_command_line_is_a_usage_error(
    cli: Cli, config: Path, url: str
) -> None:
    result = cli("train", config, "--provider", "local", "--yes", "--store", url)
    assert result.code == 2, result.err
    assert "store" in result.err
    assert "SECRET" not in result.err


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_store_in_the_environment_is_a_usage_error(
    cli: Cli, config: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWANZAA_STORE", url)
    result = cli("plan", config, "--provider", "local")
    assert result.code == 2, result.err
    assert "store" in result.err
    assert "SECRET" not in result.err
