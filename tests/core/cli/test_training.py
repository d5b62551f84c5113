"""`train`, `resume` and `download`: from the command to the adapter, or to a clear end."""

import os
import pty
import re
import select
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.runs.records import AttemptState
from kwanzaa_compute.store import Done

Cli = Callable[..., Any]


PATIENCE_S = 60.0


def test_a_run_whose_adapter_is_complete_ends_with_adapter_receipt_and_sample(
    cli: Cli, learnt: kc.Run, tmp_path: Path
) -> None:
    result = cli("resume", learnt.id)
    assert result.code == 0
    assert f"{learnt.id}: done" in result.out
    assert "eval loss  2.000 -> 1.000  (-50 %)" in result.out
    assert "quality    json valid 100 %\n" in result.out
    assert "quality    citation coverage 50 %, below its target of 85 %\n" in result.out
    assert "steps      8 in 3 s" in result.out
    assert str(tmp_path / "adapter") in result.out
    assert re.search(r"^1 +local CPU +\d+ s +\$0.00 +\$0.00 ", result.out, re.MULTILINE)
    assert re.search(r"in all .* estimated \$0.00$", result.out, re.MULTILINE)
    assert "  question   Q?\n  base       hm\n  adapter    A!\n             .\n" in result.out
    assert "launch: attempt 1 on This machine, CPU" in result.err
    assert "\x1b" not in result.out + result.err
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights"


def test_the_same_in_json_is_a_stream_of_events(cli: Cli, learnt: kc.Run, tmp_path: Path) -> None:
    result = cli("resume", learnt.id, "--json")
    assert result.code == 0
    first, *steps, last = result.events
    assert first == {"schema": 1, "event": "start", "run": learnt.id, "best": None}
    assert {step["event"] for step in steps} == {"step"}
    assert last["event"] == "end"
    assert (last["state"], last["exit"]) == ("done", 0)
    assert last["adapter"] == str(tmp_path / "adapter")
    assert last["summary"]["perplexity"] is None
    assert last["receipt"]["lines"][0]["provider"] == "local"


def test_a_finished_run_can_be_downloaded_monitored_and_resumed_again(
    cli: Cli, learnt: kc.Run, tmp_path: Path
) -> None:
    assert cli("download", learnt.id, tmp_path / "elsewhere").code == 0
    assert cli("resume", learnt.id).code == 0
    found = cli("download", learnt.id, tmp_path / "there", "--json").json
    assert found["files"] == ["adapter_model.safetensors"]
    assert (tmp_path / "there" / "adapter_model.safetensors").exists()
    shown = cli("monitor", learnt.id)
    assert (shown.code, "2.000 -> 1.000" in shown.out) == (0, True)
    assert cli("resume", learnt.id).code == 0
    assert len(learnt.attempts) == 1


def test_a_run_without_an_adapter_cannot_be_downloaded(
    cli: Cli, prepared: Callable[[], kc.Run]
) -> None:
    run = prepared()
    result = cli("download", run.id)
    assert result.code == 1
    assert f"kwanzaa monitor {run.id}" in result.err


def test_a_trainer_that_cannot_start_fails_the_run_with_its_reason(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWANZAA_HEARTBEAT_S", "nonsense")
    result = cli("train", config, "--provider", "local")
    assert result.code == 1
    assert "on        local CPU, free, about " in result.err
    assert result.err.count("relaunch: attempt ") == 3
    assert ": failed: 3 attempts in a row ended without a new checkpoint" in result.out
    run = kc.Compute().runs()[0]
    assert f"kwanzaa logs {run.id}" in result.err
    logs = cli("logs", run.id, "--follow")
    assert logs.code == 0
    assert "KWANZAA_HEARTBEAT_S='nonsense' is not a number" in logs.out
    monitored = cli("monitor", run.id, "--json")
    assert monitored.code == 1
    assert monitored.json["state"] == "failed"


def test_nothing_that_costs_money_starts_without_a_yes(
    cli: Cli, config: Path, moonbase: str
) -> None:
    result = cli("train", config, "--provider", moonbase, "--max-usd", "5", "--deadline", "9")
    assert result.code == 2
    assert "add --yes" in result.err
    assert "deadline  in 9 h" in result.err
    assert "$1.00/h" in result.err
    assert " at worst" in result.err
    assert kc.Compute().runs() == []


def test_nothing_that_costs_money_starts_without_a_cap(
    cli: Cli, config: Path, moonbase: str
) -> None:
    result = cli("train", config, "--provider", moonbase, "--yes")
    assert result.code == 5
    assert "--max-usd" in result.err
    assert kc.Compute().runs() == []


def test_where_everything_is_sold_out_the_exit_code_is_4(
    cli: Cli, config: Path, moonbase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute.compute.run.POLL_S", 0.05)
    result = cli("train", config, "--provider", moonbase, "--max-usd", "5", "--yes")
    assert result.code == 4
    assert "no offer is left to try; the last said: sold out" in result.out
    assert "tries again" in result.err


def test_a_machine_that_only_a_watcher_ends_is_not_left_alone_unasked(
    cli: Cli, config: Path, moonbase: str
) -> None:
    more = ("--max-usd", "5", "--yes", "--detach", "--gpu", "L4", "--on-demand")
    result = cli("train", config, *more)
    assert result.code == 2
    assert "nothing but a watcher ends a machine of moonbase" in result.err
    assert kc.Compute().runs() == []


def test_a_machine_that_only_a_watcher_ends_may_be_left_to_another_watcher(
    cli: Cli, config: Path, moonbase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute.compute.run.POLL_S", 0.05)
    kc.Compute().supervisor().be_present()
    more = ("--max-usd", "5", "--yes", "--detach", "--gpu", "L4", "--on-demand")
    assert "sold out" in cli("train", config, *more).out  # it was asked for
    (run,) = kc.Compute().runs()
    assert {attempt.provider for attempt in run.attempts} == {moonbase}


def test_a_detached_run_is_never_relaunched_where_only_a_watcher_ends_it(
    cli: Cli, config: Path, moonbase: str
) -> None:
    more = ("--max-usd", "5", "--yes", "--detach")
    assert cli("train", config, *more).code == 0
    (run,) = kc.Compute().runs()
    assert '"moonbase"' not in run.record.candidates
    assert cli("terminate", run.id).code == 0


def test_a_detached_run_goes_on_and_can_be_ended(cli: Cli, config: Path) -> None:
    result = cli("train", config, "--provider", "local", "--detach", "--deadline", "9")
    assert result.code == 0
    run = kc.Compute().runs()[0]
    assert run.record.deadline_at == run.record.created_at + 9 * 3600
    assert f"{run.id} goes on: local CPU, free" in result.err
    assert f"kwanzaa terminate {run.id}" in result.err
    assert cli("runs", "--open").out.count("\n") == 2
    assert "starting" in cli("runs").out
    ended = cli("terminate", run.id)
    assert ended.code == 0
    assert f"{run.id}: stopped (local CPU)" in ended.out
    assert [a.state for a in run.attempts] == [AttemptState.CLOSED]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_says_what_goes_on_and_the_machine_goes_on(
    cli: Cli, start: Cli, config: Path, times: int
) -> None:
    child = start("train", config, "--provider", "local")
    next(text for text in child.stderr if "launch: attempt 1" in text)
    for _ in range(times):
        child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130
    run = kc.Compute().runs()[0]
    assert out == ""
    assert f"{run.id} goes on: local CPU, free" in err
    assert f"kwanzaa resume {run.id}" in err
    assert f"kwanzaa terminate {run.id}" in err
    assert "Traceback" not in err
    assert run.state is kc.RunState.RUNNING
    assert cli("terminate", run.id).code == 0
    assert kc.Compute().provider("local").fleet() == ()


@pytest.mark.slow
def test_ctrl_c_in_a_simulation_promises_nothing_that_goes_on(start: Cli, config: Path) -> None:
    child = start("train", config, "--provider", "sim", "--simulate", "--max-usd", "5", "--yes")
    next(text for text in child.stderr if "launch: attempt 1" in text)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130
    assert "the simulation ends here, and its machines with it" in err
    assert "goes on" not in err
    assert not kc.Compute().runs()


def talk_to(words: list[str], env: dict[str, str], answer: bytes) -> tuple[int, str]:
    """Runs a command in a terminal, answers its question, and returns what it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(words[0], words, env)
    shown = b""
    asked = False
    while select.select([terminal], [], [], PATIENCE_S)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # its end of the terminal is closed
            break
        if b"start?" in shown and not asked:
            asked = True
            os.write(terminal, answer)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"nonsense\n"])
def test_on_a_terminal_money_needs_an_explicit_yes(
    config: Path, command: Cli, moonbase: str, answer: bytes
) -> None:
    path = os.pathsep.join([str(config.parent / "site"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "TERM": "xterm"}
    words = command("train", config, "--provider", moonbase, "--max-usd", "5")
    code, shown = talk_to(words, env, answer)
    assert code == 130
    assert "[y/N]" in shown
    assert "cap       $5.00" in shown
    assert "nothing was started" in shown
    assert kc.Compute().runs() == []


def test_a_terminal_gets_colours_unless_no_color_is_set(command: Cli) -> None:
    words = command("show", "nobody")
    coloured = talk_to(words, {**os.environ, "TERM": "xterm"}, b"")
    plain = talk_to(words, {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}, b"")
    assert coloured[0] == plain[0] == 2
    assert "\x1b[31m" in coloured[1]
    assert "\x1b" not in plain[1]


def test_a_raised_cap_is_kept(cli: Cli, prepared: Callable[[], kc.Run]) -> None:
    run = prepared()
    assert cli("terminate", run.id).code == 0
    run.folder.put_done(Done(attempt=1, step=1, files={}))
    assert cli("resume", run.id, "--max-usd", "7.50").code == 0
    assert run.record.max_usd == Decimal("7.5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--simulate"], "which cloud to play"),
        (["--simulate", "--provider", "local"], "local has no simulator"),
        (["--provider", "sim", "--store", "s3://bucket"], "brings its own store"),
        (["--provider", "sim", "--max-usd", "5", "--detach"], "ends with this command"),
    ],
)
def test_a_simulation_that_cannot_be_is_explained(
    config: Path, cli: Cli, words: list[str], said: str
) -> None:
    result = cli("train", config, "--yes", *words)
    assert result.code == 2
    assert said in result.err
