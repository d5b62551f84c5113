"""The account's key is nowhere but in one header; a machine knows its own job and nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Compute
from kwanzaa_compute.compute.machines import MachineWish
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.loopback import Reply
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

CANARY = "canary-of-the-store"


@dataclass(frozen=True, slots=True)
class Process:
    argv: str
    environment: str


def processes() -> Iterator[Process]:
    """Every process that we may look at, but this one."""
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            argv, environment = ((folder / name).read_text() for name in ("cmdline", "environ"))
        except (OSError, UnicodeDecodeError):
            continue
        yield Process(argv, environment)


def until(holds: Callable[[], object]) -> None:
    clock = Clock()
    last = clock.monotonic() + 20
    while not holds():
        assert clock.monotonic() < last
        clock.sleep(0.02)


def texts_below(folder: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_account_key_is_in_no_argv_no_machine_and_no_file(
    simulator: LambdaSimulator, tmp_path: Path
) -> None:
    key = simulator.environment["LAMBDA_API_KEY"]
    compute: Compute = compute_over(
        {"lambda": simulator}, discover(), tmp_path / "home", environment=dict(os.environ)
    )
    run = compute.provision(compute.choose_machine(MachineWish(1.0, gpu="A10")))
    until(lambda: run.launch().attempt)
    until(lambda: [p for p in processes() if p.argv == "sleep\0003600\0"])
    assert run.ssh()
    simulator.server.interrupt("GET", "/api/v1/instances", Reply(401, {"error": f"key {key}"}))
    run.launch()  # an error that quotes the key, noted in the ledger
    seen = list(processes())
    assert [p.argv for p in seen if key in p.argv] == []
    assert [p.argv for p in seen if key in p.environment] == []
    assert [p for p, text in texts_below(tmp_path).items() if key.encode() in text] == []
    # ... but in the one header of each request, and nowhere else in it.
    for request, _ in simulator.server.exchanges:
        assert key not in request.path
        assert key.encode() not in request.body
        assert [name for name, value in request.headers.items() if key in value] == [
            "authorization"
        ]
    run.terminate()
    until(lambda: run.launch().run.ended_at)
    compute.ledger.close()


def test_secrets_of_a_job_reach_its_environment_and_no_argv(
    simulator: LambdaSimulator, driver: LambdaDriver, working: tuple[str, ...]
) -> None:
    job = sample_job(name="kwz-me-k1-1", argv=working, secrets={"STORE_KEY": Secret(CANARY)})
    machine_id = driver.launch(job, next(iter(driver.offers())))
    until(lambda: simulator.cloud.room.output(machine_id) == ["hello"])
    seen = list(processes())
    assert [p for p in seen if CANARY in p.argv] == []
    assert len([p for p in seen if CANARY in p.environment]) == 1
    # What it was told lay in a file that only root may read, and is gone once it is read.
    home = simulator.cloud.room.home(machine_id)
    left = texts_below(home)
    assert not (home / "opt" / "kwanzaa" / "job.json").exists()
    assert (home / "opt" / "kwanzaa" / "start.py").stat().st_mode & 0o777 == 0o600
    holding = [path.name for path, text in left.items() if CANARY.encode() in text]
    assert holding == []
    # Its user data has it, in base64, as cloud-init keeps it for root.
    assert [path.name for path in left if b"write_files" in left[path]] == ["user-data.txt"]


@pytest.mark.parametrize("key", ["", "has a space", "line\nbreak", "ünï"])
def test_a_key_that_cannot_be_sent_is_named_by_its_variable_and_not_shown(
    tmp_path: Path, key: str
) -> None:
    environment = {"LAMBDA_API_KEY": key, "KWANZAA_HOME": str(tmp_path)}
    driver = LambdaDriver(DriverContext(environment, Clock(), "http://127.0.0.1:9"))
    with pytest.raises(CredentialsError, match="LAMBDA_API_KEY") as caught:
        list(driver.offers())
    assert not key or key not in str(caught.value)


def test_importing_the_package_imports_no_http_library() -> None:
    code = (
        "import sys, kwanzaa_compute_lambda_cloud as package;"
        "package.kwanzaa_providers();"
        "heavy = {'httpx2', 'httpcore2', 'httpx', 'requests', 'cryptography', 'yaml', 'pydantic'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
