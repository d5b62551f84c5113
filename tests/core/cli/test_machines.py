"""`provision` and `ssh`: a machine to look around on, from its price to its end."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.runs.records import AttemptState

Cli = Callable[..., Any]
HARBOUR = '''\
"""A provider with one kind of machine and a way in to it; what it has lies in files."""

from decimal import Decimal
from pathlib import Path

from kwanzaa_compute.drivers.contract import (
    Deadline, Feature, Phase, ProviderInfo, Sighting, SSHAccess,
)
from kwanzaa_compute.drivers.plugins import hookimpl
from kwanzaa_compute.errors import TransientError
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Availability, Offer

FEATURES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.SSH})


@hookimpl
def kwanzaa_providers():
    return [
        ProviderInfo(
            "harbour", "Harbour", "harbour:Driver", store_schemes=("file",), settle_s=0.0,
            deadline=Deadline.BY_WATCHER, features=FEATURES, simulated=True,
        )
    ]


class Driver:
    features = FEATURES

    def __init__(self, context):
        self.berths = Path(context.environment["KWANZAA_HOME"]) / "harbour"
        self.berths.mkdir(parents=True, exist_ok=True)

    def offers(self):
        yield Offer(
            provider="harbour", id="l4", gpu=find_gpu("L4"), usd_per_hour=Decimal("1.00"),
            region="quay", availability=Availability.AVAILABLE, source="a test", as_of="2026",
        )

    def launch(self, job, offer):
        (self.berths / job.name).write_text(" ".join(job.argv))
        return job.name

    def inspect(self, machine_id):
        there = (self.berths / machine_id).exists()
        return Sighting(machine_id, Phase.RUNNING if there else Phase.GONE, machine_id)

    def fleet(self):
        return [self.inspect(path.name) for path in self.berths.iterdir()]

    def terminate(self, machine_id):
        (self.berths / machine_id).unlink(missing_ok=True)

    def ssh(self, machine_id):
        return SSHAccess("203.0.113.7", "sailor", "ssh-ed25519 AAAA", Path("/keys/id"), 2222)

    def classify(self, error):
        return TransientError(str(error))
'''


@pytest.fixture
def harbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver package, installed; returns the folder that it lies in."""
    folder = tmp_path / "harbour-site"
    about = folder / "harbour-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "harbour.py").write_text(HARBOUR)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: harbour\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[kwanzaa_compute]\nharbour = harbour\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "harbour", raising=False)
    return folder


@pytest.fixture
def rented(cli: Cli, harbour: Path) -> kc.Run:
    """A machine that was rented and left alone."""
    words = ("--provider", "harbour", "--gpu", "L4", "--max-hours", "2", "--yes", "--detach")
    result = cli("provision", *words)
    assert result.code == 0, result.err
    (run,) = kc.Compute().runs()
    assert f"kwanzaa ssh {run.id}" in result.err
    assert "only a watcher ends this machine" in result.err
    return run


def test_a_machine_is_rented_shown_and_ended(cli: Cli, rented: kc.Run, home: Path) -> None:
    (attempt,) = rented.attempts
    assert attempt.state is AttemptState.LIVE
    assert (home / "harbour" / attempt.name).read_text() == "sleep 7200"
    shown = cli("runs").out
    assert "a machine to look around on" in shown
    assert cli("show", rented.id).code == 0
    ended = cli("terminate", rented.id)
    assert (ended.code, list((home / "harbour").iterdir())) == (0, [])
    assert f"{rented.id}: stopped (harbour L4)" in ended.out
    again = cli("resume", rented.id)
    assert (again.code, "kwanzaa provision" in again.err) == (2, True)


def test_its_price_and_its_end_are_said_and_nobody_who_could_agree_means_no(
    cli: Cli, harbour: Path
) -> None:
    result = cli("provision", "--provider", "harbour", "--max-hours", "2")
    assert result.code == 2
    for said in ("$1.00 an hour", "after 2 h", "only a watcher ends it", "add --yes"):
        assert said in result.err
    assert kc.Compute().runs() == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--max-hours", "2", "--yes", "--detach", "--gpu", "L4"], 2, "nothing but a watcher"),
        (["--max-hours", "2", "--provider", "harbour", "--gpu", "B200"], 4, "no B200"),
        (["--max-hours", "2", "--provider", "local", "--yes"], 4, "log in"),
        (["--max-hours", "0", "--provider", "harbour"], 2, "some hours"),
        (["--max-hours", "2", "--provider", "harbour", "--max-usd", "0.001"], 5, "raise --max-usd"),
        (["--provider", "harbour"], 2, "max-hours"),
        (["--max-hours", "2", "--simulate"], 2, "which cloud to play"),
    ],
)
def test_what_cannot_be_rented_is_explained(
    cli: Cli, harbour: Path, words: list[str], code: int, said: str
) -> None:
    result = cli("provision", *words)
    assert (result.code, said in result.err) == (code, True), result.err
    assert kc.Compute().runs() == []


def test_the_way_in_is_printed_with_the_host_key_known(
    cli: Cli, rented: kc.Run, home: Path
) -> None:
    words = shlex.split(cli("ssh", rented.id, "--print").out)
    name = rented.attempts[0].name
    assert words[:3] == ["ssh", "-i", "/keys/id"]
    assert words[-2:] == ["--", "sailor@203.0.113.7"]
    assert "StrictHostKeyChecking=yes" in words
    known = home / "ssh" / f"{name}.known_hosts"
    assert f"UserKnownHostsFile={known}" in words
    assert known.read_text() == f"{name} ssh-ed25519 AAAA\n"
    document = cli("ssh", rented.id, "--json", "--", "nvidia-smi", "-L").json
    assert document["argv"] == [*words, "nvidia-smi", "-L"]
    assert (document["run"], document["host"]) == (rented.id, "203.0.113.7")


def test_ssh_takes_the_place_of_the_command(
    command: Callable[..., list[str]], rented: kc.Run, harbour: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(42)\n"
    )
    (tools / "ssh").chmod(0o700)
    ran = subprocess.run(
        command("ssh", rented.id, "--", "uptime; id"),
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tools}:/usr/bin:/bin", "PYTHONPATH": str(harbour)},
        check=False,
    )
    assert ran.returncode == 42, ran.stderr
    assert json.loads(ran.stdout)[-3:] == ["--", "sailor@203.0.113.7", "uptime; id"]


def test_without_a_machine_or_a_way_in_that_is_said(cli: Cli, rented: kc.Run, config: Path) -> None:
    cli("terminate", rented.id)
    ended = cli("ssh", rented.id)
    assert (ended.code, "has no machine now" in ended.err) == (2, True)
    cli("train", config, "--provider", "local", "--detach")
    run = next(run for run in kc.Compute().runs() if run.id != rented.id)
    local = cli("ssh", run.id)
    assert (local.code, "host key is known beforehand" in local.err) == (2, True)
    cli("terminate", run.id)
