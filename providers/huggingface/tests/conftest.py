"""What the tests of Hugging Face share: a simulated Hub, and a client that may ask it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_huggingface.simulator import HubSimulator

WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


@pytest.fixture(autouse=True)
def _the_client_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere in the tests huggingface_hub is forbidden to ask anybody (HF_HUB_OFFLINE)."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubSimulator]:
    with HubSimulator(tmp_path / "machines") as hub:
        yield hub


@pytest.fixture
def context(hub: HubSimulator) -> DriverContext:
    return DriverContext(hub.environment, Clock(), hub.endpoint)


def work(name: str, seconds: float) -> Job:
    """Prints `hello`, then works for so long."""
    return sample_job(name=name, argv=(sys.executable, "-c", WORK, str(seconds)))


def exiting(name: str, code: int) -> Job:
    """Exits with a code at once."""
    return sample_job(name=name, argv=(sys.executable, "-c", f"raise SystemExit({code})"))


@pytest.fixture
def working() -> Callable[[str, float], Job]:
    return work


@pytest.fixture
def ending() -> Callable[[str, int], Job]:
    return exiting
