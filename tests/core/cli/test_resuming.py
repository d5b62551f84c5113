"""`resume --from` on the command line: an unknown or damaged checkpoint costs nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.testing.simtrainer import write_checkpoint

Cli = Callable[..., Any]


@pytest.fixture
def stopped(prepared: Callable[[], kc.Run]) -> kc.Run:
    """A run that was stopped with three checkpoints, of which the newest is torn."""
    run = prepared()
    for step in (200, 400):
        write_checkpoint(run.folder.store, f"ckpt-{step}-1", step)
    write_checkpoint(run.folder.store, "ckpt-600-1", 600, torn=True)
    ledger = run._compute.ledger
    lease = ledger.take_lease(run.id, "a test", 60)
    ledger.end_run(lease, RunState.STOPPED, "stopped by the user")
    ledger.release_lease(lease)
    return run


@pytest.mark.parametrize(
    ("wanted", "phrase"),
    [
        ("checkpoint-500", "has no checkpoint 'checkpoint-500'"),
        ("outputs/checkpoint-400", "has no checkpoint 'outputs/checkpoint-400'"),
        ("ckpt-600-1", "checkpoint ckpt-600-1 of run"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused_before_anything_starts(
    cli: Cli, stopped: kc.Run, home: Path, wanted: str, phrase: str
) -> None:
    result = cli("resume", stopped.id, "--from", wanted)
    assert result.code == 2
    assert phrase in result.err
    assert "-> it has " in result.err
    assert "ckpt-400-1, ckpt-200-1" in result.err
    assert stopped.state is RunState.STOPPED
    assert not (home / "machines").exists()
    error = cli("resume", stopped.id, "--from", wanted, "--json").json["error"]
    assert (error["kind"], error["exit"]) == ("UsageError", 2)


def test_show_lists_what_there_is_to_go_on_from(cli: Cli, stopped: kc.Run) -> None:
    assert "saved      ckpt-600-1, ckpt-400-1, ckpt-200-1\n" in cli("show", stopped.id).out
    listed = cli("show", stopped.id, "--json").json["checkpoints"]
    assert listed == stopped.checkpoints == ["ckpt-600-1", "ckpt-400-1", "ckpt-200-1"]


def test_the_choice_lies_in_the_store_for_whatever_machine_comes(
    cli: Cli, stopped: kc.Run, home: Path
) -> None:
    kc.Compute().resume(stopped.id, checkpoint="checkpoint-400")
    point = stopped.folder.resume_point()
    assert point is not None
    assert (point.checkpoint, point.after) == ("ckpt-400-1", 0)
    result = cli("resume", stopped.id, "--from", "checkpoint-200")
    assert result.code == 2
    assert f"kwanzaa stop {stopped.id}" in result.err
