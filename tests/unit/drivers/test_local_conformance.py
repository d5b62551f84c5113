"""`local` passes the suite with real processes, and leaves none behind."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute.drivers.local import LocalDriver
from kwanzaa_compute.drivers.local_machine import start_time
from kwanzaa_compute.drivers.local_plugin import kwanzaa_providers
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute.testing.samples import sample_job

WORK = "import sys, time; print('hello', flush=True); time.sleep(float(sys.argv[1]))"


def work(name: str, seconds: float) -> Job:
    return sample_job(name=name, argv=(sys.executable, "-c", WORK, str(seconds)))


def exiting(name: str, code: int) -> Job:
    return sample_job(name=name, argv=(sys.executable, "-c", f"raise SystemExit({code})"))


def kill_machine(driver: LocalDriver, machine_id: str) -> None:
    machine = driver._machines / machine_id / "machine.json"
    pid = int(machine.read_text().split('"pid": ')[1].split(",")[0])
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    clock = Clock()
    environment = {"KWANZAA_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    driver = LocalDriver(DriverContext(environment, clock))
    (info,) = kwanzaa_providers()
    harness = Harness(
        info=info,
        driver=driver,
        clock=clock,
        job=work,
        exiting=exiting,
        preempt=lambda machine_id: kill_machine(driver, machine_id),
    )
    yield harness
    for sighting in driver.fleet():
        harness.end(sighting.machine_id)


class TestLocal(DriverConformance):
    @pytest.fixture
    def harness(self, harness: Harness) -> Harness:
        return harness


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_whole_process_tree_ends_with_its_machine(harness: Harness) -> None:
    job = sample_job(name="kwz-me-t1-1", argv=(sys.executable, "-c", PARENT))
    machine_id = harness.launch(job)
    driver = harness.driver
    assert isinstance(driver, LocalDriver)
    harness.until(lambda: bool(list(driver.logs(machine_id))), "the grandchild's pid")
    grandchild = int(next(iter(driver.logs(machine_id))))
    assert alive(grandchild)
    harness.end(machine_id)
    harness.until(lambda: not alive(grandchild), "the grandchild's end")


def test_a_machine_that_is_ended_at_once_never_works(harness: Harness, tmp_path: Path) -> None:
    mark = tmp_path / "worked"
    code = f"import time; time.sleep(1); open({str(mark)!r}, 'w')"
    for number in range(10):
        job = sample_job(name=f"kwz-me-t2-{number}", argv=(sys.executable, "-c", code))
        harness.end(harness.launch(job))
    assert list(harness.driver.fleet()) == []
    harness.clock.sleep(1.5)  # long enough for any of them that was left to leave its mark
    assert not mark.exists()


def test_a_name_starts_only_once(harness: Harness) -> None:
    machine_id = harness.launch(work("kwz-me-t3-1", 600))
    with pytest.raises(FileExistsError) as caught:
        harness.launch(work("kwz-me-t3-1", 600))
    assert not harness.driver.classify(caught.value).nothing_was_created
    assert [s.machine_id for s in harness.driver.fleet()] == [machine_id]


@pytest.mark.parametrize("name", ["../escape", "a b", "", "x" * 200, ".hidden", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(harness: Harness, name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        harness.launch(work(name, 600))
    assert caught.value.nothing_was_created


def test_a_machine_gets_its_own_variables_and_none_of_ours(
    tmp_path: Path,
) -> None:
    environment = {
        "KWANZAA_HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "RUNPOD_API_KEY": "canary-rent",
        "AWS_SECRET_ACCESS_KEY": "canary-aws",
        "HF_TOKEN": "canary-hf",
    }
    driver = LocalDriver(DriverContext(environment, Clock()))
    (info,) = kwanzaa_providers()
    harness = Harness(info=info, driver=driver, clock=Clock(), job=work)
    code = "import os; print(*(f'{k}={v}' for k, v in os.environ.items()), sep='\\n', flush=True)"
    job = sample_job(
        name="kwz-me-t4-1", argv=(sys.executable, "-c", code), env={"KWANZAA_ATTEMPT": "7"}
    )
    machine_id = harness.launch(job)
    harness.until(lambda: driver.inspect(machine_id).phase is Phase.EXITED, "it has printed")
    printed = "\n".join(driver.logs(machine_id))
    harness.end(machine_id)
    assert "KWANZAA_ATTEMPT=7" in printed
    assert "canary" not in printed


def test_a_pid_that_is_somebody_elses_by_now_is_not_killed(harness: Harness) -> None:
    driver = harness.driver
    assert isinstance(driver, LocalDriver)
    machine_id = harness.launch(exiting("kwz-me-t5-1", 0))
    harness.until(lambda: driver.inspect(machine_id).phase is Phase.EXITED, "its end")
    folder = driver._machines / machine_id
    (folder / "exit.json").unlink()
    (folder / "machine.json").write_text(f'{{"pid": {os.getpid()}, "started": "1"}}')
    assert start_time(os.getpid()) != "1"
    assert driver.inspect(machine_id).phase is Phase.EXITED
    driver.terminate(machine_id)  # would end this very test
    assert driver.inspect(machine_id).phase is Phase.GONE


def test_a_job_with_a_time_limit_says_that_it_was_reached(harness: Harness) -> None:
    job = replace(work("kwz-me-t6-1", 600), max_hours=0.5 / 3600)
    machine_id = harness.launch(job)
    harness.until(lambda: harness.driver.inspect(machine_id).phase is Phase.EXITED, "its limit")
    assert harness.driver.inspect(machine_id).exit_code == 124
