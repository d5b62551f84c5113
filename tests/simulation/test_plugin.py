"""The pytest plugin, used as our users use it: in a pytest session of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
SHAPE = {
    "model_type": "olmo",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 1024,
}
"""All that a plan needs of the quickstart's base, which only `make demo` makes."""


def session(folder: Path, source: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"]
    command += [] if "kwanzaa" in _plugins() else ["-p", "kwanzaa_compute.testing.plugin"]
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("PYTEST", "KWANZAA"))}
    return subprocess.run(
        [*command, *options, "test_it.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _plugins() -> set[str]:
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group="pytest11")}


SPENDING = """
import os, subprocess, sys
import pytest
from kwanzaa_compute.drivers import provider

CODE = "from kwanzaa_compute.drivers import provider; print(provider.ALLOW_SPENDING)"

def child():
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True).stdout

def test_a_plain_test_cannot_spend():
    assert not provider.ALLOW_SPENDING
    assert child() == "False\\n"

@pytest.fixture(scope="module")
def allowed_in_a_fixture():
    return provider.ALLOW_SPENDING

@pytest.mark.live
def test_a_live_test_can(allowed_in_a_fixture):
    assert provider.ALLOW_SPENDING and allowed_in_a_fixture
    assert child() == "True\\n"

def test_a_plain_test_after_it_cannot():
    assert not provider.ALLOW_SPENDING
"""


def test_only_a_test_that_is_marked_live_can_spend(tmp_path: Path) -> None:
    result = session(tmp_path, SPENDING)
    assert "3 passed" in result.stdout, result.stdout


GUARDED = """
from dataclasses import replace
import pytest
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.testing.samples import sample_job

def test_a_real_provider_launches_nothing_and_still_ends_machines(fake_cloud):
    real = replace(fake_cloud.info, simulated=False)
    offer = next(iter(fake_cloud.offers()))
    machine = fake_cloud.launch(sample_job(), offer)
    provider = Provider(real, fake_cloud, fake_cloud.clock.clock())
    with pytest.raises(InvalidRequestError, match="switched off"):
        provider.launch(sample_job(name="other"), offer)
    provider.terminate(machine)
    assert fake_cloud.billing == []
"""


def test_the_guard_stops_launches_and_no_termination(tmp_path: Path) -> None:
    result = session(tmp_path, GUARDED)
    assert "1 passed" in result.stdout, result.stdout


LEFT = """
from kwanzaa_compute.testing.samples import sample_job

def test_it_forgets_a_machine(fake_cloud):
    fake_cloud.launch(sample_job(), next(iter(fake_cloud.offers())))
"""


def test_a_test_that_leaves_a_machine_billing_fails(tmp_path: Path) -> None:
    result = session(tmp_path, LEFT)
    assert "1 passed, 1 error" in result.stdout, result.stdout
    assert "left machines billing: m-1" in result.stdout


WHOLE_RUN = """
from decimal import Decimal
from kwanzaa_compute.compute import Options
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.plugin import compute_over

def test_a_whole_run(compute, fake_cloud, tmp_path):
    run = compute.train("{config}", Options(max_usd=Decimal(5)))
    receipt = run.wait(poll_s=30)
    assert receipt.state == "done"
    assert receipt.usd >= fake_cloud.billed_usd > 0
    assert (run.download(tmp_path / "adapter") / "adapter_model.safetensors").exists()

def test_a_preempted_run_goes_on_elsewhere(tmp_path):
    cloud = FakeCloud(preempt_at=(300,))
    with compute_over(cloud, tmp_path) as compute:
        run = compute.train("{config}", Options(max_usd=Decimal(5)))
        assert run.wait(poll_s=30).state == "done"
        first, second = run.attempts
        assert (first.fault, second.checkpoint[:5]) == ("preempted", "ckpt-")
        assert (first.offer_id, first.region) != (second.offer_id, second.region)
    assert cloud.billing == []
"""


def test_users_pass_whole_runs_in_milliseconds(tmp_path: Path) -> None:
    copy = tmp_path / "quickstart"
    shutil.copytree(QUICKSTART, copy, ignore=shutil.ignore_patterns("base", "__pycache__"))
    (copy / "base").mkdir()
    (copy / "base" / "config.json").write_text(json.dumps(SHAPE))
    result = session(tmp_path, WHOLE_RUN.replace("{config}", str(copy / "training.yaml")))
    assert "2 passed" in result.stdout, result.stdout
