"""A sweep on this machine: two adapters in one run, killed in the middle of the second."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

import kwanzaa_compute as kc

pytestmark = pytest.mark.slow
CONFIG = Path(__file__).parents[2] / "examples" / "quickstart" / "training.yaml"
STEPS = 6


@pytest.fixture(scope="module")
def bases(make_base, tiny_base: Path) -> tuple[Path, Path]:
    """Two base models with different tokenizers."""
    return tiny_base, make_base("other", ["What is Umoja? Unity, in a few words of its own."])


@pytest.fixture
def options(short_run: kc.Options) -> kc.Options:
    """The short run, in half its steps."""
    few = {
        "training.max_steps": STEPS,
        "checkpointing.save_steps": 2,
        "evaluation.steps": 3,
    }
    return replace(short_run, overrides={**short_run.overrides, **few})


def learnt(folder: Path, rows: Iterable[dict[str, object]]) -> tuple[str, object]:
    """The adapter's bytes, and every loss to its last bit."""
    weights = (folder / "adapter_model.safetensors").read_bytes()
    losses = [(row["step"], row["kind"], row["loss_hex"]) for row in rows]
    return hashlib.sha256(weights).hexdigest(), losses


def descendants(pid: int) -> list[int]:
    """The processes below one, the nearest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


class KillInTheSecond:
    """Kills the machine's trainers with SIGKILL once the second member is seen past a step."""

    def __init__(self, compute: kc.Compute, member: str) -> None:
        self.compute, self.member, self.killed_at = compute, member, 0
        self.members_seen: dict[str, None] = {}

    def __call__(self, seen: kc.Step) -> None:
        beat = seen.heartbeat
        if beat is None or seen.attempt is None:
            return
        self.members_seen.setdefault(beat.member)
        if beat.member == self.member and beat.step >= STEPS + 3 and not self.killed_at:
            folder = self.compute.home / "machines" / seen.attempt.machine_id
            machine = json.loads((folder / "machine.json").read_text())
            # The member first, so that its parent cannot tell of it; then the parent.
            for pid in reversed(descendants(machine["pid"])):
                os.kill(pid, signal.SIGKILL)
            self.killed_at = beat.step


def test_a_sweep_killed_in_its_second_adapter_ends_bit_identical_to_two_runs(
    compute: kc.Compute, options: kc.Options, bases: tuple[Path, Path], tmp_path: Path
) -> None:
    names = [str(base) for base in bases]
    planned = compute.plan_sweep(CONFIG, names, options)
    assert planned.is_together
    first, second = planned.names
    run = compute.train(CONFIG, planned=planned.runs[0])
    kill = KillInTheSecond(compute, second)
    receipt = run.wait(kill, poll_s=0.02)
    assert STEPS + 3 <= kill.killed_at < 2 * STEPS
    assert receipt.state is kc.RunState.DONE, receipt.reason
    assert [line.ended for line in receipt.lines] == [
        "its command ended too early (signal 9)",
        "the done marker is in the store",
    ]
    assert list(filter(None, kill.members_seen)) == [first, second]
    assert compute.provider("local").fleet() == ()
    folder = run.download()
    swept = {name: learnt(folder / name, run.members[name].metrics()) for name in planned.names}
    assert run.members[first].attempts() == [1], "what is done is not trained again"
    assert run.members[second].attempts() == [1, 2]
    assert "resumed from ckpt-2" in run.members[second].store.get("attempts/2/log.jsonl").decode()
    done = run.done
    assert done is not None
    assert done.step == 2 * STEPS
    assert set(done.summary["members"]) == set(planned.names)
    for name, base in zip(planned.names, bases, strict=True):
        alone = replace(options, overrides={**options.overrides, "model.base_model_id": str(base)})
        single = compute.train(CONFIG, alone)
        assert single.wait(poll_s=0.05).state is kc.RunState.DONE
        target = single.download(tmp_path / f"alone-{name}")
        assert learnt(target, single.metrics) == swept[name]


def test_the_command_trains_both_and_what_fails_leaves_the_other(
    compute: kc.Compute, bases: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((bases[0] / "config.json").read_bytes())
    command = [sys.executable, "-m", "kwanzaa_compute", "sweep", str(CONFIG), "--json"]
    for base in (broken, bases[0]):
        command += ["--base-model", str(base)]
    output = tmp_path / "adapters"
    command += ["--provider", "local", "--max-steps", "2", "--output", str(output), "--yes"]
    environment = {**compute.environment, "KWANZAA_HOME": str(compute.home)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    start, *_, end = map(json.loads, ended.stdout.splitlines())
    assert ended.returncode == 1, ended.stderr
    good = bases[0].name
    assert start["members"] == ["broken", good]
    assert end["state"] == "failed"
    assert end["reason"].startswith("broken: ")
    assert end["reason"].endswith(f"(done: {good})")
    assert end["members"] == ["broken", good]
    run = compute.run(start["run"])
    assert list(run.finished) == [good]
    assert (run.download() / good / "adapter_model.safetensors").is_file()
    assert not (output / "broken").exists()
