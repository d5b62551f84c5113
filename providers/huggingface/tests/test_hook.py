"""What the package says about itself, and that saying it loads no SDK."""

import subprocess
import sys

from kwanzaa_compute.drivers.contract import Deadline, DriverContext, Feature
from kwanzaa_compute.drivers.plugins import build_driver, build_simulator, discover
from kwanzaa_compute_huggingface import kwanzaa_providers


def test_the_package_brings_three_providers_and_loads_no_sdk() -> None:
    code = (
        "import sys; from kwanzaa_compute_huggingface import kwanzaa_providers;"
        "print([info.name for info in kwanzaa_providers()]);"
        "print([n for n in ('huggingface_hub', 'httpx2', 'obstore', 'moto') if n in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == ["['hf-jobs', 'hf-spaces', 'autotrain']", "[]"]


def test_the_catalogue_finds_them_and_their_parts(tmp_path, context: DriverContext) -> None:
    catalogue = discover()
    assert "huggingface" not in catalogue.broken
    for info in kwanzaa_providers():
        found = catalogue.find(info.name)
        assert build_driver(found, context).features == info.features
        assert build_simulator(found, tmp_path).endpoint == ""


def test_what_ends_the_billing_is_said_of_each() -> None:
    deadlines = {info.name: info.deadline for info in kwanzaa_providers()}
    assert deadlines == {
        "hf-jobs": Deadline.BY_PROVIDER,
        "hf-spaces": Deadline.BY_MACHINE,
        "autotrain": Deadline.BY_MACHINE,
    }


def test_autotrain_runs_no_code_of_ours_and_says_that_it_is_deprecated() -> None:
    info = next(info for info in kwanzaa_providers() if info.name == "autotrain")
    assert Feature.CUSTOM_CODE not in info.features
    assert "deprecated" in info.title
