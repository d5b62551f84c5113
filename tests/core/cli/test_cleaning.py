"""`gc`, `rebuild` and `cap`: machines without runs, a lost ledger, and the whole project's cap."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.compute import strays
from kwanzaa_compute.runs.records import AttemptState

Cli = Callable[..., Any]


@pytest.fixture
def stray(home: Path, moonbase: str) -> str:
    """A machine of ours on a provider that lies about ending machines; no run knows of it."""
    name = f"kwz-{kc.Compute().owner}-lost-ab12cd-1"
    (home / "moonbase").mkdir(parents=True)
    (home / "moonbase" / name).touch()
    (home / "moonbase" / "kwz-somebody-else-1").touch()
    return name


def test_a_machine_without_a_run_is_named_in_red_with_exit_code_6(cli: Cli, stray: str) -> None:
    result = cli("gc")
    assert result.code == 6
    (line,) = (line for line in result.err.splitlines() if line.startswith("machine "))
    assert f"machine {stray} ({stray}) on moonbase may be billing" in line
    assert "https://moonbase.invalid/machines" in line
    assert "somebody" not in result.err
    found = cli("gc", "--json").json
    assert [machine["name"] for machine in found["machines"]] == [stray]


def test_no_machine_is_ended_without_a_yes(cli: Cli, stray: str) -> None:
    result = cli("gc", "--end")
    assert result.code == 2
    assert "add --yes" in result.err


def test_an_end_that_is_not_confirmed_is_said(
    cli: Cli, stray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strays, "PATIENCE_S", 0.0)
    for words in (("gc", "--end", "--yes"), ("terminate", "--all")):
        result = cli(*words)
        assert result.code == 6
        assert "the end could not be confirmed: machine" in result.err


def test_a_machine_whose_ledger_is_lost_is_found_and_ended(
    cli: Cli, config: Path, home: Path
) -> None:
    assert cli("train", config, "--provider", "local", "--detach").code == 0
    (attempt,) = kc.Compute().runs()[0].attempts
    for file in home.glob("ledger.sqlite*"):
        file.unlink()
    assert cli("gc").code == 6
    result = cli("gc", "--end", "--yes")
    assert (result.code, f"{attempt.name}: ended, and confirmed absent" in result.err) == (0, True)
    assert kc.Compute().provider("local").fleet() == ()
    assert "no machine of yours is without a run" in cli("gc").err


def test_terminate_all_ends_machines_that_no_run_knows_of(
    cli: Cli, config: Path, home: Path
) -> None:
    assert cli("train", config, "--provider", "local", "--detach").code == 0
    for file in home.glob("ledger.sqlite*"):
        file.unlink()
    assert cli("terminate", "--all").code == 0
    assert kc.Compute().provider("local").fleet() == ()


def test_a_lost_ledger_is_rebuilt_and_the_run_goes_on(cli: Cli, learnt: kc.Run, home: Path) -> None:
    learnt.launch()
    before = learnt.record
    for file in home.glob("ledger.sqlite*"):
        file.unlink()
    assert cli("rebuild").code == 2  # nobody could be asked
    result = cli("rebuild", "--yes")
    assert (result.code, learnt.id in result.out) == (0, True)
    run = kc.Compute().run(learnt.id)
    assert run.record == before
    assert run.attempts[0].state is AttemptState.INTENDED
    assert cli("resume", run.id).code == 0
    assert run.state is kc.RunState.DONE
    assert "no run that is not known here" in cli("rebuild").err


def test_the_cap_of_the_project_is_shown_set_and_lifted(cli: Cli, home: Path) -> None:
    assert "cap on all runs   none" in cli("cap").out
    assert "left              $20.00" in cli("cap", "--max-usd", "20").out
    assert cli("cap", "--json").json["left_usd"] == "20"
    assert cli("cap", "--no-limit", "--max-usd", "2").code == 2
    assert "none" in cli("cap", "--no-limit").out


def test_the_cap_of_the_project_is_in_the_plan_and_at_the_launch(
    cli: Cli, config: Path, moonbase: str
) -> None:
    kc.Compute().cap_project(Decimal(0))
    words = (config, "--provider", moonbase, "--max-usd", "5")
    plan = cli("plan", *words)
    assert plan.code == 4
    assert "the cap on all runs leaves $0.00" in plan.err
    assert cli("train", *words, "--yes").code == 4
    assert kc.Compute().runs() == []


def test_a_mark_with_a_dash_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KWANZAA_OWNER", "me-you")
    result = cli("gc")
    assert (result.code, "cannot mark machines" in result.err) == (2, True)
