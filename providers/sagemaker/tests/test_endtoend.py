"""Whole runs on a simulated SageMaker: checkpoints and adapter go through S3."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Compute, Options, Run
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.testing.endtoend import LOST_AFTER, POLL_S, DriverEndToEnd
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

PATIENCE_S = 120


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


def _has_a_checkpoint(run: Run) -> bool:
    beat = run.heartbeat
    return beat is not None and bool(beat.checkpoint) and beat.step >= LOST_AFTER
