"""Clients that we did not write work against the simulated Hub as they are: `hf` and `HfApi`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute_huggingface.jobs import JobsDriver
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN

PATIENCE_S = 60.0
HF = Path(sys.executable).with_name("hf")
Cli = Callable[..., str]


@pytest.fixture
def hf(hub: HubSimulator, tmp_path: Path) -> Cli:
    """The command line of huggingface_hub; its output."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",  # large files then go the way of git LFS
        "NO_COLOR": "1",
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            [HF, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def job(hub: HubSimulator, context: DriverContext, working: Callable[[str, float], Job]) -> str:
    """A job of ours that runs."""
    driver = JobsDriver(context)
    job_id = driver.launch(working("kwz-me-witness-1", 600), next(iter(driver.offers())))
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while driver.inspect(job_id).phase is not Phase.RUNNING or not list(driver.logs(job_id)):
        assert clock.monotonic() < last
        clock.sleep(0.05)
    return job_id


def test_hf_jobs_sees_reads_and_cancels_a_job_of_ours(
    hub: HubSimulator, hf: Cli, job: str, context: DriverContext
) -> None:
    listed = hf("jobs", "ps", "--no-truncate")
    assert job in listed
    assert "kwz-me-witness-1" in listed
    assert "hello" in hf("jobs", "logs", job)
    hf("jobs", "cancel", job)
    assert JobsDriver(context).inspect(job).phase is Phase.GONE
    assert hub.cloud.billing == []
    assert "CANCELED" in hf("jobs", "ps", "-a")


def test_a_job_of_somebody_elses_is_not_in_our_fleet(hf: Cli, context: DriverContext) -> None:
    hf("jobs", "run", "--detach", "--flavor", "t4-small", "python:3.12", "sleep", "600")
    assert list(JobsDriver(context).fleet()) == []


def test_hf_uploads_and_downloads(hub: HubSimulator, hf: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\nAn adapter.\n")
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(100_000))
    hf("upload", "loopback/adapter", str(folder), "--private")
    hf("download", "loopback/adapter", "--local-dir", str(tmp_path / "copy"))
    for file in folder.iterdir():
        assert (tmp_path / "copy" / file.name).read_bytes() == file.read_bytes()
    assert hub.repositories.all["model", "loopback/adapter"].private


def test_hf_api_works_on_repositories(hub: HubSimulator, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    assert api.whoami()["name"] == "loopback"
    api.create_repo("loopback/m", private=True)
    for number in range(3):
        api.upload_file(
            path_or_fileobj=b"%d" % number, path_in_repo="a/b.txt", repo_id="loopback/m"
        )
    assert api.list_repo_files("loopback/m") == ["a/b.txt"]
    assert [item.path for item in api.list_repo_tree("loopback/m", "a")] == ["a/b.txt"]
    got = hf_hub_download(
        "loopback/m", "a/b.txt", endpoint=hub.endpoint, token=TOKEN, cache_dir=tmp_path
    )
    assert Path(got).read_text() == "2"
    api.super_squash_history("loopback/m")
    assert len(hub.repositories.all["model", "loopback/m"].commits) == 1
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.endpoint, token=False).model_info("loopback/m")
    api.delete_repo("loopback/m")
    assert not api.repo_exists("loopback/m")


def test_hf_api_works_on_a_space(hub: HubSimulator) -> None:
    api = HfApi(endpoint=hub.endpoint, token=TOKEN)
    api.create_repo("loopback/app", repo_type="space", space_sdk="docker", private=True)
    api.add_space_secret("loopback/app", "KEY", "value")
    assert sorted(api.get_space_secrets("loopback/app")) == ["KEY"]
    dockerfile = b'FROM python:3.12\nCMD ["python3", "-c", "print(1)"]\n'
    api.upload_file(
        path_or_fileobj=dockerfile,
        path_in_repo="Dockerfile",
        repo_id="loopback/app",
        repo_type="space",
    )
    assert api.get_space_runtime("loopback/app").hardware == "cpu-basic"
    assert api.request_space_hardware("loopback/app", "t4-small").requested_hardware == "t4-small"
    assert api.set_space_sleep_time("loopback/app", 300).sleep_time == 300
    assert api.pause_space("loopback/app").stage == "PAUSED"
    assert hub.cloud.billing == []
    assert [space.id for space in api.list_spaces(author="loopback")] == ["loopback/app"]
