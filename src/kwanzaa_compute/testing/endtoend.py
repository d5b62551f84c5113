"""A whole run through one driver, for real: the test that every driver passes beside the suite.

    from kwanzaa_compute.testing.endtoend import DriverEndToEnd

    class TestMoonbaseEndToEnd(DriverEndToEnd):
        provider = "moonbase"

        @pytest.fixture
        def simulator(self, tmp_path):
            with MoonbaseSimulator(tmp_path / "cloud") as simulator:
                yield simulator

Plan, launch on the loopback cloud, train a tiny model there, lose the machine to SIGKILL, resume
on another, bring the adapter home, end the machine, and compare the receipt with the cloud's own
meter. It needs `kwanzaa-trainer[torch]`, and about fifteen seconds of a processor.
"""

# ruff: noqa: S101 -- a test

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import pytest

from kwanzaa_compute.compute import Compute, Options, Run
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.drivers.contract import Simulator
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.runs.records import AttemptState, RunState
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.testing.loopback import LoopbackCloud

STEPS, SAVE_EVERY, LOST_AFTER = 60, 10, 10
POLL_S = 0.2
CONFIG = """\
run: {{name: end-to-end, seed: 7, logging_steps: 1}}
model: {{base_model_id: {base}}}
data: {{train_file: train.jsonl, max_seq_length: 256}}
adapter: {{lora: {{r: 4, dropout: 0.0}}}}
training: {{max_steps: {steps}, per_device_train_batch_size: 2, gradient_accumulation_steps: 1}}
checkpointing: {{save_steps: {save}}}
artifacts: {{output_dir: {output}}}
"""


class SimulatorWithTruth(Simulator, Protocol):
    """A simulator whose cloud can be looked into."""

    cloud: LoopbackCloud


class LoseTheMachine:
    """Takes the machine back the first time that the trainer is seen past a step."""

    def __init__(self, cloud: LoopbackCloud) -> None:
        """Nothing is lost yet."""
        self.cloud, self.lost = cloud, ""

    def __call__(self, seen: Step) -> None:
        """Looks at one step of the watcher's."""
        beat = seen.heartbeat
        if beat and beat.checkpoint and beat.step >= LOST_AFTER and seen.attempt and not self.lost:
            self.lost = seen.attempt.machine_id
            self.cloud.preempt(self.lost)


class DriverEndToEnd:
    """One whole run. Subclass it, name the `provider`, and give it a fixture `simulator`."""

    provider = ""

    @pytest.fixture
    def simulator(self) -> SimulatorWithTruth:
        """The provider's simulator, entered."""
        raise NotImplementedError("give this class a fixture `simulator`")

    @pytest.fixture
    def compute(self, simulator: SimulatorWithTruth, tmp_path: Path) -> Iterator[Compute]:
        """A `Compute` whose one provider is played by the simulator."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        simulators = {self.provider: simulator}
        compute = compute_over(simulators, discover(), tmp_path / "home", environment=environment)
        yield compute
        compute.ledger.close()

    @pytest.fixture
    def config(self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A training.yaml with data of its own, on a base that all providers share."""
        rows = [
            {"messages": [{"role": "user", "content": f"What is {n} and {n}?"}]} for n in range(24)
        ]
        for number, row in enumerate(rows):
            row["messages"].append({"role": "assistant", "content": f"It is {2 * number}."})
        data = tmp_path / "train.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        base = shared_base(data, tmp_path_factory)
        path = tmp_path / "training.yaml"
        path.write_text(
            CONFIG.format(base=base, steps=STEPS, save=SAVE_EVERY, output=tmp_path / "adapter")
        )
        return path

    def test_a_run_loses_its_machine_and_comes_home(
        self, compute: Compute, config: Path, simulator: SimulatorWithTruth
    ) -> None:
        """And leaves nothing behind that bills."""
        cloud = simulator.cloud
        options = Options(providers=(self.provider,), max_usd=Decimal(20), max_hours=1.0)
        run = compute.train(config, options)
        lose = LoseTheMachine(cloud)
        receipt = run.wait(lose, poll_s=POLL_S)
        assert lose.lost, _history(run)
        assert receipt.state is RunState.DONE, _history(run)
        states = [attempt.state for attempt in run.attempts]
        assert states == [AttemptState.CLOSED] * 2, _history(run)
        _went_on_from_its_checkpoint(run)
        assert (run.download() / "adapter_model.safetensors").exists()
        assert cloud.billing == []
        assert list(compute.provider(self.provider).fleet()) == []
        self.check_the_bill(run, cloud)

    def check_the_bill(self, run: Run, cloud: LoopbackCloud) -> None:
        """The receipt is at least the meter, and above it by no more than what we cannot know.

        That is five percent, or for each attempt a billing step, the settle window in which its
        end is made sure of, and a look.
        """
        assert run.receipt.usd >= cloud.billed_usd
        settle_s = run._compute.provider(self.provider).info.settle_s  # noqa: SLF001 -- a test
        slack = sum(
            (
                a.usd_per_hour * Decimal(a.billing_step_s + settle_s + 10 * POLL_S) / 3600
                for a in run.attempts
            ),
            Decimal(0),
        )
        allowed = max(cloud.billed_usd * Decimal("0.05"), slack)
        assert run.receipt.usd - cloud.billed_usd <= allowed


def shared_base(data: Path, factory: pytest.TempPathFactory) -> Path:
    """A tiny base that knows this data, made once in a test run (at most once a process)."""
    folder = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    base = folder / f"base-{hashlib.sha256(data.read_bytes()).hexdigest()[:16]}"
    if not base.exists():
        made = data.parent / "base"
        make = [sys.executable, "-m", "kwanzaa_trainer.tiny", str(made), str(data)]
        subprocess.run(make, check=True, capture_output=True)
        with suppress(OSError):  # another process was faster: same data, same bytes
            made.rename(base)
    return base


def _went_on_from_its_checkpoint(run: Run) -> None:
    """The second attempt did not begin at step 0, and every step was learnt."""
    steps = [row["step"] for row in run.metrics if row["kind"] == "train"]
    assert sorted(set(steps)) == list(range(1, STEPS + 1))
    store = run.folder.store
    second = store.get("attempts/2/metrics.jsonl").decode().splitlines()
    first_step = min(json.loads(line)["step"] for line in second)
    assert first_step > 1


def _history(run: Run) -> str:
    return "\n".join(f"{event.kind}: {event.message}" for event in run.events)
