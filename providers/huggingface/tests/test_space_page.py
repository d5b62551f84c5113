"""What runs in a Space: its page, its end, its pause, and what a restart does."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_huggingface.page import Progress
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN
from kwanzaa_compute_huggingface.space_files import space_files
from kwanzaa_compute_huggingface.spaces import PAUSE_TOKEN, SpacesDriver

PATIENCE_S = 60.0
STEPS = "print('2026 step 3/8: loss 1.2345, 90 tokens/s', flush=True); import time; time.sleep(600)"
ONCE = """
import os, pathlib, sys
mark = pathlib.Path(sys.argv[1])
print("nothing to do" if mark.exists() else "trained", flush=True)
mark.touch()
"""


@pytest.fixture
def driver(hub: HubSimulator) -> SpacesDriver:
    """One whose Spaces may pause themselves."""
    environment = {**hub.environment, PAUSE_TOKEN: TOKEN}
    return SpacesDriver(DriverContext(environment, Clock(), hub.endpoint))


def launched(driver: SpacesDriver, job: Job) -> str:
    return driver.launch(job, next(iter(driver.offers())))


def until(driver: SpacesDriver, machine_id: str, stage: str) -> Sighting:
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while not (seen := driver.inspect(machine_id)).detail.startswith(stage):
        assert clock.monotonic() < last, f"it is {seen}, not {stage}"
        clock.sleep(0.05)
    return seen


def python(code: str, *words: str, **changes: object) -> Job:
    return sample_job(argv=(sys.executable, "-c", code, *words), **changes)


def test_the_page_shows_how_far_the_run_is(hub: HubSimulator, driver: SpacesDriver) -> None:
    machine_id = launched(driver, python(STEPS))
    until(driver, machine_id, "RUNNING")
    last = Clock().monotonic() + PATIENCE_S
    while "step 3 of 8, loss 1.2345" not in (page := page_of(hub, machine_id)):
        assert Clock().monotonic() < last, page
    assert "training" in page
    assert "ends in 0 h 59 min" in page


def page_of(hub: HubSimulator, machine_id: str) -> str:
    command = hub.cloud.sim.machines[hub.cloud.spaces[machine_id]].command
    port = command.extra["port"]  # type: ignore[attr-defined]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return str(answer.read().decode())


def test_what_a_run_prints_cannot_put_anything_else_on_the_page() -> None:
    progress = Progress(not_after=3700.0)
    progress.read("step 1/2: loss 0.5<script>alert(1)</script>")
    progress.read("<script>step</script>")
    assert b"script" not in progress.page(now=100.0)
    assert b"step 1 of 2, loss 0.5" in progress.page(now=100.0)


def test_a_space_that_may_pauses_itself(hub: HubSimulator, driver: SpacesDriver) -> None:
    machine_id = launched(driver, python("print('trained')"))
    seen = until(driver, machine_id, "PAUSED")
    assert (seen.phase, seen.usd_per_hour) == (Phase.EXITED, 0)
    assert hub.cloud.billing == []


def test_a_space_that_may_not_ends_and_is_suspended(
    hub: HubSimulator, context: DriverContext
) -> None:
    driver = SpacesDriver(context)
    machine_id = launched(driver, python("print('trained')"))
    assert until(driver, machine_id, "RUNTIME_ERROR").exit_code == 0
    assert hub.cloud.billing == []


def test_a_space_whose_token_was_revoked_ends_all_the_same(
    hub: HubSimulator, context: DriverContext
) -> None:
    environment = {**hub.environment, PAUSE_TOKEN: "hf_revokedlongago"}
    driver = SpacesDriver(DriverContext(environment, Clock(), hub.endpoint))
    machine_id = launched(driver, python("raise SystemExit(3)"))
    assert until(driver, machine_id, "RUNTIME_ERROR").exit_code == 3
    assert "hf_revokedlongago" not in "\n".join(driver.logs(machine_id))
    assert hub.cloud.billing == []


def test_the_right_to_pause_is_not_handed_on_to_the_run(
    hub: HubSimulator, driver: SpacesDriver
) -> None:
    code = "import os, time; print(sorted(os.environ), flush=True); time.sleep(600)"
    machine_id = launched(driver, python(code))
    until(driver, machine_id, "RUNNING")
    last = Clock().monotonic() + PATIENCE_S
    while "SPACE_ID" not in (said := "\n".join(driver.logs(machine_id))):
        assert Clock().monotonic() < last
    assert "KWANZAA_PAUSE_TOKEN" not in said


def test_a_restart_of_what_is_done_does_nothing_and_pauses_again(
    hub: HubSimulator, driver: SpacesDriver, tmp_path: Path
) -> None:
    machine_id = launched(driver, python(ONCE, str(tmp_path / "done")))
    until(driver, machine_id, "PAUSED")
    driver._hub.call(lambda api: api.restart_space(machine_id))
    seen = until(driver, machine_id, "PAUSED")
    last = Clock().monotonic() + PATIENCE_S
    while "nothing to do" not in "\n".join(driver.logs(machine_id)):
        assert Clock().monotonic() < last, seen
    until(driver, machine_id, "PAUSED")
    assert hub.cloud.billing == []


@pytest.fixture
def container(tmp_path: Path) -> dict[str, str]:
    """A Space's environment and its file, without any Hub."""
    (tmp_path / "page.py").write_bytes(space_files("kwz-me-r1-1", "image")["page.py"])
    return {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": "0", "PYTHONPATH": ""}


def test_a_restart_after_the_time_is_up_runs_nothing(
    container: dict[str, str], tmp_path: Path
) -> None:
    told = {"KWANZAA_NOT_AFTER": "1000", "KWANZAA_ARGV": '["touch", "ran"]'}
    page = [sys.executable, "-I", str(tmp_path / "page.py")]
    ended = subprocess.run(
        page, env={**container, **told}, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 124
    assert not (tmp_path / "ran").exists()
    assert b"time of this machine is up" in ended.stderr


def test_a_space_holds_no_more_than_its_page(hub: HubSimulator, driver: SpacesDriver) -> None:
    machine_id = launched(driver, python("print('trained')"))
    repository = hub.repositories.all["space", machine_id]
    assert repository.private
    assert sorted(repository.files) == ["Dockerfile", "README.md", "page.py"]
    space = hub.spaces.all[machine_id]
    assert space.sleep_s == 3600
    assert space.hardware == "t4-small"
    driver.terminate(machine_id)
    assert ("space", machine_id) not in hub.repositories.all
    assert hub.cloud.billing == []
