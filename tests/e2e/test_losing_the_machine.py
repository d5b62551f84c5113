"""A run that loses its machine, its watcher or its user's patience, and is none the worse."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.runs.records import AttemptState

pytestmark = pytest.mark.slow
CONFIG = Path(__file__).parents[2] / "examples" / "quickstart" / "training.yaml"
WATCH = "import sys, kwanzaa_compute as kc; kc.Compute(home=sys.argv[1]).run(sys.argv[2]).wait()"


def outcome(run: kc.Run) -> tuple[str, list[tuple[int, str, str]]]:
    """The adapter's bytes, and every loss to its last bit."""
    weights = run.download() / "adapter_model.safetensors"
    losses = [(row["step"], row["kind"], row["loss_hex"]) for row in run.metrics]
    return hashlib.sha256(weights.read_bytes()).hexdigest(), losses


def trainer_of(compute: kc.Compute, machine_id: str) -> int:
    """The process id of the trainer on a local machine."""
    machine = json.loads((compute.home / "machines" / machine_id / "machine.json").read_text())
    children = Path(f"/proc/{machine['pid']}/task/{machine['pid']}/children").read_text().split()
    return int(children[0])


class KillOnce:
    """Kills the trainer with SIGKILL the first time that it is seen past a step."""

    def __init__(self, compute: kc.Compute, step: int) -> None:
        self.compute, self.step, self.killed_at = compute, step, 0

    def __call__(self, seen: kc.Step) -> None:
        beat = seen.heartbeat
        if beat and seen.attempt and beat.step >= self.step and not self.killed_at:
            os.kill(trainer_of(self.compute, seen.attempt.machine_id), signal.SIGKILL)
            self.killed_at = beat.step


@pytest.fixture(scope="module")
def undisturbed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, object]:
    """What the short run gives when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    compute = kc.Compute(home=folder, environment={**os.environ, "OMP_NUM_THREADS": "1"})
    run = compute.train(CONFIG, options(tiny_base, folder))
    assert run.wait().state is kc.RunState.DONE
    return outcome(run)


def options(base: Path, folder: Path) -> kc.Options:
    """As the fixture `short_run`, for a fixture of a wider scope."""
    return kc.Options(
        providers=("local",),
        overrides={
            "model.base_model_id": str(base),
            "training.max_steps": 12,
            "checkpointing.save_steps": 4,
            "evaluation.steps": 6,
            "run.logging_steps": 1,
            "adapter.lora.dropout": 0.05,
            "artifacts.output_dir": str(folder / "adapter"),
        },
    )


def test_a_killed_trainer_is_relaunched_and_ends_bit_identical(
    compute: kc.Compute, short_run: kc.Options, undisturbed: tuple[str, object]
) -> None:
    run = compute.train(CONFIG, short_run)
    kill = KillOnce(compute, step=5)
    receipt = run.wait(kill, poll_s=0.05)
    assert 5 <= kill.killed_at < 12
    assert receipt.state is kc.RunState.DONE
    assert [line.ended for line in receipt.lines] == [
        "its command ended too early (signal 9)",
        "the done marker is in the store",
    ]
    assert outcome(run) == undisturbed
    assert compute.provider("local").fleet() == ()


@pytest.mark.parametrize("chosen", [None, "checkpoint-4"])
def test_a_stopped_run_goes_on_later_and_ends_bit_identical(
    compute: kc.Compute,
    short_run: kc.Options,
    undisturbed: tuple[str, object],
    chosen: str | None,
) -> None:
    run = compute.train(CONFIG, short_run)

    def stop_after_five_steps(seen: kc.Step) -> None:
        if seen.heartbeat and seen.heartbeat.step >= 5:
            run.stop()

    receipt = run.wait(stop_after_five_steps, poll_s=0.05)
    assert (receipt.state, receipt.reason) == (
        kc.RunState.STOPPED,
        "stopped after a checkpoint",
    )
    assert run.attempts[-1].checkpoint
    assert compute.provider("local").fleet() == ()
    again = compute.resume(run.id, checkpoint=chosen)
    assert again.wait(poll_s=0.05).state is kc.RunState.DONE
    assert len(again.attempts) == 2
    (resumed,) = [line for line in again.folder.log(2) if "resumed from" in line]
    assert resumed.endswith("ckpt-4-1" if chosen else run.attempts[0].checkpoint)
    assert outcome(again) == undisturbed


def test_another_watcher_takes_over_when_the_first_is_killed(
    compute: kc.Compute, short_run: kc.Options, undisturbed: tuple[str, object]
) -> None:
    run = compute.train(CONFIG, short_run)
    watcher = subprocess.Popen([sys.executable, "-c", WATCH, str(compute.home), run.id])
    try:
        deadline = compute.clock.monotonic() + 60
        while compute.ledger.watcher(run.id) is None:
            assert compute.clock.monotonic() < deadline
            compute.clock.sleep(0.05)
        with pytest.raises(kc.LeaseLostError):
            run.wait()
    finally:
        watcher.kill()
        watcher.wait()
    again = compute.resume(run.id)
    assert again.wait(poll_s=0.05).state is kc.RunState.DONE
    assert len(run.attempts) == 1
    assert outcome(run) == undisturbed


def test_terminate_ends_the_machine_now(compute: kc.Compute, short_run: kc.Options) -> None:
    run = compute.train(CONFIG, short_run)
    run.terminate()
    receipt = run.wait(poll_s=0.05)
    assert (receipt.state, receipt.reason) == (kc.RunState.STOPPED, "terminated by the user")
    assert all(a.state is AttemptState.CLOSED for a in run.attempts)
    assert compute.provider("local").fleet() == ()
    with pytest.raises(kc.RunError, match="no finished adapter"):
        run.download()
