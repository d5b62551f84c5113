"""Whole runs on a simulated SageMaker: checkpoints and adapter go through S3."""

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Compute, Options, Run
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.store import open_store
from kwanzaa_compute.store.folder import RunFolder
from kwanzaa_compute.testing.endtoend import LOST_AFTER, POLL_S, DriverEndToEnd
from kwanzaa_compute_sagemaker.settings import INSTANCES
from kwanzaa_compute_sagemaker.simulated.account import USD_PER_HOUR
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

PATIENCE_S = 120
NEAR = 2e-6
"""Sums of float32 gradients come in another order: the last bits of a loss differ, no more."""


@pytest.mark.slow
class TestSageMakerEndToEnd(DriverEndToEnd):
    provider = "sagemaker"

    @pytest.fixture
    def simulator(self, simulator: SageMakerSimulator) -> SageMakerSimulator:
        return simulator

    def test_with_nobody_watching_sagemaker_starts_a_spot_job_again_and_it_goes_on(
        self, compute: Compute, config: Path, simulator: SageMakerSimulator
    ) -> None:
        """From its checkpoint, on another machine, as the same attempt."""
        simulator.jobs._restart_s = 0.3
        wish = Options(providers=("sagemaker",), spot=True, max_usd=Decimal(20), max_hours=1.0)
        run = compute.train(config, wish)
        clock = Clock()
        last = clock.monotonic() + PATIENCE_S
        while not _has_a_checkpoint(run):
            assert clock.monotonic() < last
            clock.sleep(POLL_S)
        simulator.cloud.preempt(run.attempts[0].machine_id)
        while run.done is None:
            assert clock.monotonic() < last, simulator.cloud.room.output("m-2")
            clock.sleep(POLL_S)
        receipt = run.wait(poll_s=POLL_S)
        assert receipt.state is RunState.DONE
        assert len(run.attempts) == 1
        assert len(simulator.cloud.sim.machines) == 2
        steps = re.findall(r" step (\d+)/", "\n".join(simulator.cloud.room.output("m-2")))
        assert int(steps[0]) > LOST_AFTER
        assert (run.download() / "adapter_model.safetensors").exists()
        assert simulator.cloud.billing == []

    def test_two_instances_learn_what_one_learns_and_cost_twice_as_much(
        self, config: Path, simulator: SageMakerSimulator, tmp_path: Path
    ) -> None:
        text = config.read_text().replace("max_steps: 60", "max_steps: 6")
        config.write_text(text.replace("save_steps: 10", "save_steps: 3"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", INSTANCES: "2"}
        home = tmp_path / "home-of-two"
        together = compute_over({"sagemaker": simulator}, discover(), home, environment=environment)
        wish = Options(providers=("sagemaker",), spot=False, max_usd=Decimal(20), max_hours=1.0)
        run = together.train(config, wish)
        receipt = run.wait(poll_s=POLL_S)
        (attempt,) = run.attempts
        (job,) = simulator.jobs.by_name.values()
        rooms = {room: simulator.cloud.room.output(room) for room in job.rooms}
        assert receipt.state is RunState.DONE, rooms
        assert attempt.usd_per_hour == 2 * Decimal(
            USD_PER_HOUR[job.request["ResourceConfig"]["InstanceType"]]
        )
        self.check_the_bill(run, simulator.cloud)
        assert simulator.cloud.billing == []
        told = {item.path: item for item in run.folder.store.list("attempts/1")}
        assert {"attempts/1/preflight.json", "attempts/1/preflight-1.json"} <= told.keys()
        first, second = rooms.values()
        assert any("step 6/" in line for line in first)
        assert not any("step 6/" in line for line in second)  # only the first speaks
        assert (run.download() / "adapter_model.safetensors").exists()
        alone = _trained_by_one_process(run.folder, tmp_path / "alone")
        assert _losses(run.folder) == pytest.approx(_losses(alone), rel=NEAR)
        together.ledger.close()


def _trained_by_one_process(run: RunFolder, folder: Path) -> RunFolder:
    """The same run from its beginning, on this disk."""
    again = open_store(f"file://{folder}")
    for item in run.store.list():
        if item.path.startswith("input/"):
            again.put(item.path, run.store.get(item.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "kwanzaa_trainer", "run", again.url]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=PATIENCE_S)
    return RunFolder(again)


def _losses(run: RunFolder) -> dict[tuple[str, int], float]:
    return {(row["kind"], row["step"]): float.fromhex(row["loss_hex"]) for row in run.metrics()}


def _has_a_checkpoint(run: Run) -> bool:
    beat = run.heartbeat
    return beat is not None and bool(beat.checkpoint) and beat.step >= LOST_AFTER
