"""The provider `sim`: real processes under a simulated cloud."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute.testing.fakecloud import fake_offers
from kwanzaa_compute.testing.loopback.sim import Sim, SimDriver, kwanzaa_providers
from kwanzaa_compute.testing.samples import sample_job

WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


def work(name: str, seconds: float) -> Job:
    return sample_job(name=name, argv=(sys.executable, "-c", WORK, str(seconds)))


def exiting(name: str, code: int) -> Job:
    return sample_job(name=name, argv=(sys.executable, "-c", f"raise SystemExit({code})"))


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with Sim(tmp_path / "machines") as sim:
        yield sim


class TestSim(DriverConformance):
    @pytest.fixture
    def harness(self, sim: Sim) -> Harness:
        (info,) = kwanzaa_providers()
        context = DriverContext({}, Clock(), sim.endpoint)
        return Harness(
            info=sim.adapt(info),
            driver=SimDriver(context),
            clock=Clock(),
            job=work,
            exiting=exiting,
            preempt=sim.cloud.preempt,
        )


def running(harness: Harness, name: str, code: str) -> str:
    """A machine that runs a piece of Python, once it runs."""
    machine_id = harness.launch(sample_job(name=name, argv=(sys.executable, "-c", code)))
    harness.until(
        lambda: harness.driver.inspect(machine_id).phase is Phase.RUNNING, "it is running"
    )
    return machine_id


@pytest.fixture
def harness(sim: Sim) -> Harness:
    (info,) = kwanzaa_providers()
    driver = SimDriver(DriverContext({}, Clock(), sim.endpoint))
    return Harness(info=info, driver=driver, clock=Clock(), job=work)


LEAVES_CHILDREN = """
import os, subprocess, sys, time
code = "import os, time; os.setsid(); open({mark!r} + str(os.getpid()), 'w'); time.sleep(600)"
for _ in range(2):
    subprocess.Popen([sys.executable, "-c", code])
time.sleep(600)
"""


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("end", ["preempt", "terminate", "close"])
def test_nothing_of_a_machine_outlives_it(
    sim: Sim, harness: Harness, tmp_path: Path, end: str
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    machine_id = running(harness, "kwz-me-s1-1", LEAVES_CHILDREN.format(mark=f"{marks}/"))
    harness.until(lambda: len(list(marks.iterdir())) == 2, "its children live")
    pids = [int(mark.name) for mark in marks.iterdir()]
    {
        "preempt": lambda: sim.cloud.preempt(machine_id),
        "terminate": lambda: harness.end(machine_id),
        "close": sim.cloud.room.close,
    }[end]()
    harness.until(lambda: not any(map(alive, pids)), "they are gone")


def test_machines_end_with_the_process_that_simulates_them(tmp_path: Path) -> None:
    """However it ends: here by SIGKILL."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        from kwanzaa_compute.testing.loopback.machines import MachineRoom

        room = MachineRoom(tmp_path)
        room.start("m-1", [sys.executable, "-c", WORK, "600"], {}, lambda _code: None)
        while not (commands := room.commands("m-1")):
            pass
        os.write(writing, str(commands[0]).encode())
        os.kill(os.getpid(), 9)
    command = int(os.read(reading, 20))
    os.waitpid(pid, 0)
    clock = Clock()
    deadline = clock.monotonic() + 20
    while alive(command):
        assert clock.monotonic() < deadline
        clock.sleep(0.02)


def test_the_meter_runs_until_a_machine_has_ended(sim: Sim, harness: Harness) -> None:
    machine_id = running(harness, "kwz-me-s2-1", "import time; time.sleep(600)")
    assert [machine.id for machine in sim.cloud.billing] == [machine_id]
    harness.end(machine_id)
    bill = sim.cloud.billed_usd
    assert bill > 0
    Clock().sleep(1.1)
    assert sim.cloud.billed_usd == bill
    assert sim.cloud.billing == []


def test_without_a_running_simulation_there_is_nothing_and_nothing_can_be_launched() -> None:
    driver = SimDriver(DriverContext({}, Clock()))
    assert [*driver.offers(), *driver.fleet(), *driver.logs("m-1")] == []
    assert driver.inspect("m-1").phase is Phase.GONE
    driver.terminate("m-1")
    with pytest.raises(LookupError):
        driver.launch(work("kwz-me-s3-1", 1), fake_offers("sim")[0])
