"""constraints.txt pins what is installed, to the version that is installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Names and versions of `name==version` lines; a build's suffix (+cpu) does not count."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pairs = (line.partition("==")[::2] for line in lines if "==" in line)
    return {canonical(name): version.partition("+")[0] for name, version in pairs}


def test_what_is_installed_is_pinned() -> None:
    freeze = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"]
    installed = pins(subprocess.run(freeze, capture_output=True, text=True, check=True).stdout)
    wanted = pins((ROOT / "constraints.txt").read_text())
    # pip comes with the environment; torch's CUDA build pins its own parts.
    ours = {
        name: version
        for name, version in installed.items()
        if name not in {"pip", "wheel"} and not name.startswith(("nvidia-", "triton", "kwanzaa-"))
    }
    assert ours
    assert {name: wanted.get(name) for name in ours} == ours


def test_a_pin_fits_every_machine() -> None:
    text = (ROOT / "constraints.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert odd == []
    assert "torch==2.13.0" in lines


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-wandb.lock"])
def test_a_rented_machine_installs_the_versions_that_are_tested(name: str) -> None:
    """`make lock` brings the locks up to date."""
    lock = (ROOT / "trainer/src/kwanzaa_trainer" / name).read_text()
    locked = pins(lock.replace(" --hash", "#"))
    pinned = pins((ROOT / "constraints.txt").read_text())
    assert locked
    assert {n: v for n, v in locked.items() if pinned.get(n) != v} == {}
    assert all("--hash=sha256:" in line for line in lock.splitlines() if "==" in line)
    assert "torch" not in locked
