"""Two processes that share a run's steps learn what one learns alone, and one goes on for two."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.store.objects import relative_paths
from kwanzaa_trainer.team import Team

pytestmark = pytest.mark.slow

LIMIT_S = 240
NEAR = 2e-6
"""Sums of float32 gradients come in another order: the last bits of a loss differ, no more."""

SHARED = {
    "adapter": {"lora": {"dropout": 0.0}},
    "training": {
        "max_steps": 8,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
    },
    "evaluation": {"steps": 4},
    "checkpointing": {"save_steps": 2},
}


def train_in_two(run: Any, attempt: int = 1) -> None:
    """One attempt by torchrun with two processes, over gloo."""
    environment = {
        **os.environ,
        "KWANZAA_ATTEMPT": str(attempt),
        "KWANZAA_HEARTBEAT_S": "0",
        "KWANZAA_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "kwanzaa_trainer", "run", run.url),
    ]
    done = subprocess.run(  # noqa: PLW1510 -- its stderr is shown where it failed
        command, env=environment, capture_output=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def values(run: Any) -> dict[tuple[int, str], float]:
    return {key: float.fromhex(loss) for key, loss in run.losses().items()}


@pytest.fixture(scope="module")
def alone(make_run: Any) -> Any:
    run = make_run(**SHARED)
    assert run.train() == 0, run.complaints()
    return run


@pytest.fixture(scope="module")
def in_two(make_run: Any) -> Any:
    run = make_run(**SHARED)
    train_in_two(run)
    return run


def test_two_processes_learn_what_one_learns_with_twice_the_accumulation(
    alone: Any, in_two: Any
) -> None:
    assert values(in_two).keys() == values(alone).keys()
    assert values(in_two) == pytest.approx(values(alone), rel=NEAR)
    ours, theirs = in_two.done().summary, alone.done().summary
    assert ours["tokens"] == theirs["tokens"]
    assert ours["eval_loss_best"] == pytest.approx(theirs["eval_loss_best"], rel=NEAR)
    assert ours["base_sha256"] == theirs["base_sha256"]


def test_only_the_leading_process_writes_checkpoints_log_and_result(in_two: Any) -> None:
    stored = [event["name"] for event in in_two.events("checkpoint")]
    assert stored == sorted(set(stored), key=stored.index)
    assert in_two.checkpoints()[0] == "ckpt-8-1"
    assert len(in_two.events("finished")) == 1
    assert len(in_two.events("precision")) == 1


def test_what_one_process_saved_two_go_on_from(alone: Any, tmp_path: Path) -> None:
    run = alone.copy(tmp_path / "copy")
    for gone in ("done.json", "checkpoints/ckpt-8-1/manifest.json"):
        (run.root / gone).unlink()
    train_in_two(run, attempt=2)
    (resumed,) = run.events("resumed", attempt=2)
    assert resumed["step"] == 6
    assert values(run) == pytest.approx(values(alone), rel=NEAR)


def test_what_two_processes_saved_one_goes_on_from(alone: Any, in_two: Any, tmp_path: Path) -> None:
    run = in_two.copy(tmp_path / "copy")
    for gone in ("done.json", "checkpoints/ckpt-8-1/manifest.json"):
        (run.root / gone).unlink()
    for path, _ in list(relative_paths(run.root / "adapter")):
        path.unlink()
    assert run.train(attempt=2) == 0, run.complaints()
    (resumed,) = run.events("resumed", attempt=2)
    assert resumed["step"] == 6
    assert values(run) == pytest.approx(values(alone), rel=NEAR)
    rows = run.store.get("attempts/2/metrics.jsonl").splitlines()
    assert {json.loads(row)["step"] for row in rows if json.loads(row)["kind"] == "train"} == {7, 8}


def test_a_team_of_one_returns_what_it_is_given() -> None:
    team = Team()
    assert team.leads
    assert team.share([1, 2, 3]) == [1, 2, 3]
    assert team.agreed("x") == "x"
    assert team.sums(0.1, 2) == [0.1, 2]


def test_every_row_of_a_step_is_learnt_by_exactly_one_process() -> None:
    rows = list(range(7))
    shares = [Team(rank, 3).share(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows


@pytest.mark.parametrize("environ", [{"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}])
def test_a_team_that_makes_no_sense_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="torchrun"):
        Team.from_environment(environ)
