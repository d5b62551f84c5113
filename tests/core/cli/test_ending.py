"""`stop`, `terminate` and `watch`: nothing goes on billing, and nobody is told otherwise."""

import importlib
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.runs.records import AttemptState, Move
from kwanzaa_compute.store import Done, RunFolder, open_store
from kwanzaa_compute.testing.samples import sample_attempt

Cli = Callable[..., Any]


def test_a_run_that_was_never_launched_is_ended_without_a_machine(
    cli: Cli, prepared: Callable[[], kc.Run]
) -> None:
    run = prepared()
    result = cli("terminate", run.id)
    assert result.code == 0
    assert f"{run.id}: stopped (no machine), 0 s, $0.00" in result.out
    again = cli("stop", run.id)
    assert (again.code, "had ended already" in again.out) == (0, True)


def test_terminate_all_ends_every_run(cli: Cli, prepared: Callable[[], kc.Run]) -> None:
    runs = [prepared(), prepared()]
    runs[0].launch()
    result = cli("terminate", "--all", "--json")
    assert result.code == 0
    last = result.events[-1]
    assert last["event"] == "end"
    assert {entry["run"] for entry in last["ended"]} == {run.id for run in runs}
    assert {run.state for run in runs} == {kc.RunState.STOPPED}
    assert kc.Compute().provider("local").fleet() == ()


def test_terminate_all_with_nothing_running_says_so(cli: Cli) -> None:
    result = cli("terminate", "--all")
    assert (result.code, result.err) == (0, "nothing is running\n")


@pytest.mark.slow
def test_a_run_that_somebody_else_watches_is_ended_by_them(
    cli: Cli, start: Cli, config: Path
) -> None:
    watcher = start("train", config, "--provider", "local")
    next(text for text in watcher.stderr if "launch: attempt 1" in text)
    run = kc.Compute().runs()[0]
    result = cli("terminate", run.id)
    assert result.code == 0
    assert f"{run.id}: stopped (local CPU)" in result.out
    out, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 0
    assert f"{run.id}: stopped: terminated by the user" in out


@pytest.fixture
def unconfirmed(home: Path, config: Path, moonbase: str, prepared: Callable[[], kc.Run]) -> kc.Run:
    """A run whose machine is listed long after its end was asked for."""
    run = prepared()
    compute = kc.Compute()
    lease = compute.ledger.take_lease(run.id, "test", 60.0)
    assert lease is not None
    attempt = replace(
        sample_attempt(run_id=run.id, provider=moonbase, name="kwz-m-1", machine_id="kwz-m-1"),
        state=AttemptState.ENDING,
        ending=Move.HALT,
        ending_at=0.0,
        intended_at=compute.clock.now() - 3600,
    )
    compute.ledger.add_attempt(lease, attempt)
    compute.ledger.release_lease(lease)
    (home / "moonbase").mkdir()
    (home / "moonbase" / "kwz-m-1").touch()
    return run


@pytest.mark.parametrize("verb", ["terminate", "stop", "resume"])
def test_what_may_still_be_billing_is_shouted_with_exit_code_6(
    cli: Cli, unconfirmed: kc.Run, verb: str
) -> None:
    result = cli(verb, unconfirmed.id)
    assert result.code == 6
    assert "machine kwz-m-1 on Moonbase may still be billing $1.00/h" in result.err
    assert "\n  -> look at https://moonbase.invalid/machines now" in result.err
    assert unconfirmed.state is kc.RunState.RUNNING


def test_terminate_all_ends_the_others_before_it_shouts(
    cli: Cli, unconfirmed: kc.Run, prepared: Callable[[], kc.Run]
) -> None:
    other = prepared()
    result = cli("terminate", "--all")
    assert result.code == 6
    assert other.state is kc.RunState.STOPPED
    assert f"{unconfirmed.id}: not confirmed ended" in result.out


def test_watch_once_shouts_as_well(cli: Cli, unconfirmed: kc.Run) -> None:
    result = cli("watch", "--once")
    assert result.code == 6
    line = next(line for line in result.err.splitlines() if "may still be billing" in line)
    assert line.startswith(f"{unconfirmed.id}: machine kwz-m-1 on Moonbase")
    assert "$1.00/h" in line
    assert "-> look at https://moonbase.invalid/machines now" in result.err
    assert [event["event"] for event in cli("watch", "--once", "--json").events] == [
        "unconfirmed",
        "step",
    ]


def test_a_training_whose_machine_does_not_end_is_shouted_with_exit_code_6(
    cli: Cli, config: Path, moonbase: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute.compute.run.POLL_S", 0.05)
    monkeypatch.setattr("kwanzaa_compute.runs.supervisor.UNCONFIRMED_S", 0.1)
    driver = importlib.import_module(moonbase).Driver
    (home / "moonbase").mkdir(parents=True)

    def launch(_self: object, job: Job, _offer: object) -> str:
        (home / "moonbase" / job.name).touch()
        RunFolder(open_store(job.store_url)).put_done(Done(attempt=1, step=1, files={}))
        return job.name

    monkeypatch.setattr(driver, "launch", launch)
    result = cli("train", config, "--provider", moonbase, "--max-usd", "5", "--yes")
    assert result.code == 6
    (run,) = kc.Compute().runs()
    machine = run.attempts[0].machine_id
    assert f"machine {machine} on Moonbase may still be billing $1.00/h" in result.err
    assert "-> look at https://moonbase.invalid/machines now" in result.err
    assert run.state is kc.RunState.RUNNING


def test_what_may_still_be_billing_is_red_on_a_terminal(
    cli: Cli, unconfirmed: kc.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute.cli.screen.is_fancy", lambda _stream: True)
    for verb in ("terminate", "stop", "resume"):
        (shout,) = (x for x in cli(verb, unconfirmed.id).err.split("\x1b[0m") if "may still" in x)
        assert "\x1b[31m" in shout


def test_two_watchers_at_once_see_every_run_through_once(
    cli: Cli, start: Cli, prepared: Callable[[], kc.Run], learn: Callable[[kc.Run], kc.Run]
) -> None:
    runs = [learn(prepared()) for _ in range(4)]
    watchers = [start("watch", "--json") for _ in range(2)]
    compute = kc.Compute()
    for _ in range(600):
        if all(run.state is kc.RunState.DONE for run in runs):
            break
        compute.clock.sleep(0.1)
    assert [run.state for run in runs] == [kc.RunState.DONE] * 4
    assert [len(run.attempts) for run in runs] == [1] * 4
    assert len(compute.ledger.watchers()) == 2
    for watcher in watchers:
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=60)
    assert compute.ledger.watchers() == []


def test_watch_once_takes_one_step_and_leaves_the_run_to_others(cli: Cli, learnt: kc.Run) -> None:
    assert "no open run" not in cli("watch", "--once").err
    assert len(learnt.attempts) == 1
    assert kc.Compute().ledger.watcher(learnt.id) is None
    assert cli("resume", learnt.id).code == 0
    assert "no open run to watch" in cli("watch", "--once").err
