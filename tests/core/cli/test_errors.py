"""Whatever goes wrong: one message, what mends it, the right exit code, and no traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute import Compute
from kwanzaa_compute.cli import main

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], 'Did you mean "train"?'),
        (["plan", "x.yaml", "--budgt", "5"], "Did you mean --budget?"),
        (["plan"], "CONFIG"),
        (["show"], "RUN"),
        (["runs", "surplus"], "surplus"),
        (["plan", "x.yaml", "--max-usd", "much"], "not an amount of dollars"),
        (["plan", "x.yaml", "--max-usd", "-1"], "not an amount of dollars"),
        (["plan", "x.yaml", "--max-usd", "nan"], "not an amount of dollars"),
        (["completion", "cmd.exe"], "bash"),
        (["show", "nobody"], "kwanzaa runs"),
        (["terminate"], "--all"),
        (["terminate", "one", "--all"], "--all"),
        (["plan", "nowhere.yaml"], "nowhere.yaml"),
        (["offers", "--provider", "lamda"], "did you mean lambda?"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_code_2(
    cli: Cli, words: list[str], hint: str
) -> None:
    result = cli(*words)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert "\n  -> " in result.err
    assert hint in result.err
    assert "Traceback" not in result.err


def test_a_wrong_key_names_its_line_and_the_nearest_key(cli: Cli, config: Path) -> None:
    config.write_text(config.read_text() + "  learning_rat: 1\n")
    result = cli("plan", config)
    assert result.code == 2
    assert f"{config}:12" in result.err
    assert "learning_rate" in result.err


def test_debug_shows_where_an_error_comes_from(cli: Cli) -> None:
    result = cli("show", "nobody", "--debug")
    assert result.code == 2
    assert "Traceback (most recent call last)" in result.err
    assert "error: there is no run 'nobody'" in result.err


def test_an_error_is_json_too(cli: Cli) -> None:
    result = cli("show", "nobody", "--json")
    assert result.code == 2
    assert result.json == {
        "schema": 1,
        "error": {
            "kind": "UsageError",
            "message": "there is no run 'nobody'",
            "mend": "kwanzaa runs",
            "exit": 2,
        },
    }


def test_a_fault_of_our_own_shows_no_traceback_either(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compute, "runs", lambda _self: 1 / 0)
    result = cli("runs")
    assert result.code == 1
    assert "a fault of kwanzaa itself: ZeroDivisionError" in result.err
    assert "--debug" in result.err
    assert "Traceback" not in result.err


def test_help_lists_every_command(cli: Cli) -> None:
    from kwanzaa_compute.cli.app import COMMANDS

    result = cli("--help")
    assert result.code == 0
    assert [name for name, *_ in COMMANDS if f"  {name}: " not in result.out] == []
    assert cli().out == result.out


@pytest.mark.parametrize("name", ["plan", "train", "runs", "terminate", "completion"])
def test_every_command_explains_itself(cli: Cli, name: str) -> None:
    result = cli(name, "--help")
    assert result.code == 0
    assert "--json" in result.out


def test_the_version_is_the_packages(cli: Cli) -> None:
    import kwanzaa_compute

    assert cli("--version").out.strip() == kwanzaa_compute.__version__


def test_python_m_is_the_same_command(start: Cli) -> None:
    child = start("show", "nobody")
    shown = child.communicate(timeout=60)
    assert child.returncode == 2
    assert shown == ("", "error: there is no run 'nobody'\n  -> kwanzaa runs\n")


def test_every_command_and_event_is_documented() -> None:
    from kwanzaa_compute.cli.app import COMMANDS

    text = (Path(__file__).parents[3] / "docs" / "json.md").read_text()
    assert [name for name, *_ in COMMANDS if f"`{name}`" not in text] == []


def test_main_takes_the_processs_own_words_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["kwanzaa", "runs", "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "runs": [], "count": 0}
