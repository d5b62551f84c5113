"""`runs`, `show`, `logs` and what sets things up: reading, for people and for programs."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.runs.candidates import load_offers
from kwanzaa_compute.runs.records import AttemptState
from kwanzaa_compute.runs.recovery import Launch, intent
from kwanzaa_compute.store import Heartbeat

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


def test_a_misspelt_run_is_met_with_the_one_that_was_meant(
    cli: Cli, prepared: Callable[[], kc.Run]
) -> None:
    run = prepared()
    result = cli("show", f"{run.id[:-2]}zz")
    assert result.code == 2
    assert f"did you mean {run.id}?" in result.err


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


@pytest.fixture
def twice(prepared: Callable[[], kc.Run], home: Path) -> kc.Run:
    """A run with two attempts: the first one's machine has printed, of the second the store has."""
    run = prepared()
    ledger, record = run._compute.ledger, run.record
    lease = ledger.take_lease(run.id, "a test", 60)
    launch = Launch(load_offers(record.candidates)[0], 1.0)
    last = None
    for _ in range(2):
        attempt = replace(
            intent(record, launch, last, 0.0), state=AttemptState.CLOSED, closed_at=1.0
        )
        ledger.add_attempt(lease, attempt)
        last = attempt
    ledger.release_lease(lease)
    folder = home / "machines" / run.attempts[0].name
    folder.mkdir(parents=True)
    (folder / "output.log").write_text("one\ntwo\n")
    said = {"time": "T", "level": "warning", "message": "three"}
    run.folder.store.put("attempts/2/log.jsonl", json.dumps(said).encode())
    return run


def test_logs_are_those_of_all_attempts_or_of_one(cli: Cli, twice: kc.Run) -> None:
    result = cli("logs", twice.id)
    assert result.out == "one\ntwo\nT WARNING: three\n"
    assert re.findall(r"attempt \d: \S+", result.err) == ["attempt 1: local", "attempt 2: local"]
    assert cli("logs", twice.id, "--attempt", 1).out == "one\ntwo\n"
    assert cli("logs", twice.id, "--attempt", 2).out == "T WARNING: three\n"
    events = cli("logs", twice.id, "--json").events
    assert [(e["attempt"], e["text"]) for e in events] == [
        (1, "one"),
        (1, "two"),
        (2, "T WARNING: three"),
    ]
    assert list(twice.logs()) == ["T WARNING: three"], "in Python, the newest one's"


@pytest.mark.parametrize("number", ["3", "0", "-1"])
def test_an_attempt_that_there_is_not_has_no_log(cli: Cli, twice: kc.Run, number: str) -> None:
    result = cli("logs", twice.id, f"--attempt={number}")
    assert result.code == 2
    assert f"has no attempt {number}: it has 2" in result.err


def test_logs_and_runs_say_that_the_trainer_is_silent(
    cli: Cli, prepared: Callable[[], kc.Run]
) -> None:
    run = prepared()
    ledger, record = run._compute.ledger, run.record
    lease = ledger.take_lease(run.id, "a test", 60)
    attempt = intent(record, Launch(load_offers(record.candidates)[0], 1.0), None, 0.0)
    beat = Heartbeat(3, "train", 1, step=9, total_steps=10, interval_s=90.0)
    long_ago = time.time() - 3600
    ledger.add_attempt(
        lease,
        replace(attempt, state=AttemptState.LIVE, beat_sequence=3, beat_changed_at=long_ago),
    )
    ledger.release_lease(lease)
    run.folder.put_heartbeat(beat)
    assert "attempt 1 has been SILENT for 1 h" in cli("logs", run.id).err
    assert "SILENT for 1 h" in cli("runs").out
    assert cli("runs", "--json").json["runs"][0]["silent_s"] >= 3600
    run.folder.put_heartbeat(replace(beat, sequence=4))
    assert "SILENT" not in cli("logs", run.id).err + cli("runs").out


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
