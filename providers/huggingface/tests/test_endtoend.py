"""Whole runs on Jobs and on Spaces: a machine is lost, the run goes on, nothing is left behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.testing.endtoend import DriverEndToEnd
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.gateway import BucketGateway
from kwanzaa_compute_huggingface.simulator.hub import TOKEN
from kwanzaa_compute_huggingface.spaces import PAUSE_TOKEN

pytestmark = pytest.mark.slow


class TestJobsEndToEnd(DriverEndToEnd):
    """Everything through a storage bucket, as a user of Hugging Face alone would have it."""

    provider = "hf-jobs"

    @pytest.fixture
    def simulator(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSimulator]:
        with (
            BucketGateway("loopback", "runs") as gateway,
            HubSimulator(tmp_path / "cloud") as simulator,
        ):
            for name, value in gateway.environment.items():
                monkeypatch.setenv(name, value)
            simulator.store_url = "hf://buckets/loopback/runs/end-to-end"
            yield simulator


class TestSpacesEndToEnd(DriverEndToEnd):
    """Each Space pauses itself when its run is done; the watcher then deletes it."""

    provider = "hf-spaces"

    @pytest.fixture
    def simulator(self, tmp_path: Path) -> Iterator[HubSimulator]:
        with HubSimulator(tmp_path / "cloud") as simulator:
            simulator.environment = {**simulator.environment, PAUSE_TOKEN: TOKEN}
            yield simulator
