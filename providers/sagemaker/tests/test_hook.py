"""Importing the package is cheap, and what `--simulate` lacks is said in one line."""

import subprocess
import sys

import pytest

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute_sagemaker.simulated import moto

LOOK = """
import sys
import {module}
heavy = ("boto3", "botocore", "sagemaker", "moto", "flask", "obstore", "requests", "urllib3")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    "module", ["kwanzaa_compute_sagemaker", "kwanzaa_compute_sagemaker.driver"]
)
def test_no_sdk_is_imported_before_it_is_used(module: str) -> None:
    code = LOOK.format(module=module)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_simulator_without_moto_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moto, "find_spec", lambda name: None if name == "moto" else object())
    with pytest.raises(UsageError, match="needs moto") as caught, moto.MotoServer():
        pass
    assert "kwanzaa-compute-sagemaker[simulator]" in caught.value.mend


def test_moto_ends_with_whoever_started_it() -> None:
    with moto.MotoServer() as server:
        process = server._process
        assert process.poll() is None
    assert process.returncode == 0
