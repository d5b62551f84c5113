"""Whole runs on simulated machines: some share our files, others have nothing of ours."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kwanzaa_compute.drivers.contract import Feature, ProviderInfo
from kwanzaa_compute.testing.endtoend import DriverEndToEnd
from kwanzaa_compute.testing.loopback.sim import Sim

pytestmark = pytest.mark.slow


class TestSimEndToEnd(DriverEndToEnd):
    provider = "sim"

    @pytest.fixture
    def simulator(self, tmp_path: Path) -> Iterator[Sim]:
        with Sim(tmp_path / "cloud") as simulator:
            yield simulator


class Bare(Sim):
    """Machines that know nothing of ours: the code has to reach them through the store."""

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        return replace(info, features=info.features - {Feature.SHARES_FILES})


class TestBareMachinesEndToEnd(DriverEndToEnd):
    provider = "sim"

    @pytest.fixture
    def simulator(self, tmp_path: Path) -> Iterator[Bare]:
        with Bare(tmp_path / "cloud") as simulator:
            yield simulator
