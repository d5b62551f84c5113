"""`runs`, `show`, `logs` and what sets things up: reading, for people and for programs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc

Cli = Callable[..., Any]


def test_without_runs_there_is_a_hint_and_no_data(cli: Cli) -> None:
    result = cli("runs")
    assert (result.code, result.out) == (0, "")
    assert "kwanzaa train CONFIG" in result.err


def test_runs_are_listed_newest_first(cli: Cli, prepared: Callable[[], kc.Run]) -> None:
    older, newer = prepared(), prepared()
    listed = cli("runs", "--json").json
    assert [row["run"] for row in listed["runs"]] == [newer.id, older.id]
    row = listed["runs"][0]
    assert (row["state"], row["attempt"], row["where"], row["usd"]) == ("running", 0, None, "0")
    assert cli("runs").out.splitlines()[1].startswith(newer.id)


def test_only_the_newest_runs_are_listed_unless_asked(
    cli: Cli, prepared: Callable[[], kc.Run]
) -> None:
    for _ in range(21):
        prepared()
    result = cli("runs")
    assert len(result.out.splitlines()) == 21
    assert "1 older" in result.err
    assert len(cli("runs", "--all").out.splitlines()) == 22


def test_show_tells_attempts_receipt_and_history(cli: Cli, learnt: kc.Run) -> None:
    cli("resume", learnt.id)
    shown = cli("show", learnt.id[:-1])
    assert shown.code == 0
    for words in (f"{learnt.id}: done", "receipt", "history", "launch: attempt 1", "file://"):
        assert words in shown.out
    document = cli("show", learnt.id, "--json").json
    assert document["state"] == "done"
    assert document["attempts"][0]["state"] == "closed"
    assert document["receipt"]["usd"] == "0.0000"
    assert document["events"][0]["kind"] == "launch"


def test_a_log_cannot_steer_the_terminal(cli: Cli, learnt: kc.Run, home: Path) -> None:
    cli("resume", learnt.id)
    name = learnt.attempts[-1].machine_id
    (home / "machines" / name / "output.log").write_text("a\x1b[2Jb\x08c\n\x1b]0;x\x07d\n")
    assert cli("logs", learnt.id).out == "abc\nd\n"
    assert [event["text"] for event in cli("logs", learnt.id, "--json").events] == ["abc", "d"]


def test_a_run_without_a_machine_has_no_log(cli: Cli, prepared: Callable[[], kc.Run]) -> None:
    result = cli("logs", prepared().id)
    assert (result.code, result.out) == (0, "")
    assert "nothing yet" in result.err


def test_a_reader_that_goes_away_is_no_error(start: Cli) -> None:
    child = start("schema")
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait(timeout=60) == 141


def test_the_schema_is_json_schema(cli: Cli) -> None:
    for words in (("schema",), ("schema", "--json")):
        schema = cli(*words).json
        assert schema["$schema"].endswith("2020-12/schema")
        assert "training" in schema["properties"]


def test_providers_are_installed_missing_or_broken(
    cli: Cli, moonbase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = cli("providers", "--json").json
    names = {provider["provider"]: provider for provider in listed["providers"]}
    assert names["moonbase"]["environment"] == {"MOONBASE_KEY": False}
    missing = listed["missing"]
    assert not set(missing) & set(names)
    assert all("pip install" in how or "no driver" in how for how in missing.values())
    shown = cli("providers").out
    assert "set MOONBASE_KEY" in shown
    assert "only a watcher" in shown
    monkeypatch.setenv("MOONBASE_KEY", "s3cret")
    found = cli("providers").out + json.dumps(cli("providers", "--json").json)
    assert "s3cret" not in found
    assert "found" in found


def test_a_broken_driver_package_is_shown_and_stops_nobody(
    cli: Cli, moonbase: str, tmp_path: Path
) -> None:
    (tmp_path / "site" / "moonbase.py").write_text("raise RuntimeError('no air')\n")
    result = cli("providers")
    assert result.code == 0
    assert "local" in result.out
    assert "moonbase cannot be used: RuntimeError: no air" in result.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).out
    assert "terminate" in script
    assert "max-usd" in script
    assert cli("completion", shell, "--json").json["script"] in {script, script.removesuffix("\n")}


def test_the_bash_script_is_bash(
    cli: Cli, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(cli("completion", "bash").out)
    subprocess.run([require_tool("bash"), "-n", script], check=True)
