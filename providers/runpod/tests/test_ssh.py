"""The way in to a machine: the real `ssh`, against the sshd that the machine itself brings up."""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute.ssh_words import known_hosts, ssh_words
from kwanzaa_compute.drivers.contract import DriverContext, SSHAccess
from kwanzaa_compute.drivers.ssh_keys import login_key
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.loopback import Reply, Request
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_runpod import login
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.request import packed
from kwanzaa_compute_runpod.simulator import RunPodSimulator

ONE, OTHER = "kwz-me-s1-1", "kwz-me-s2-1"
CANARY = "canary-of-the-store"
WORK = "import json, os; print(json.dumps(dict(os.environ)), flush=True); os.wait()"


# -- for real ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machines:
    """Two machines that let their owner in."""

    one: SSHAccess
    other: SSHAccess
    output: Callable[[], str]
    folder: Path

    def ssh(self, access: SSHAccess, name: str, command: str) -> "subprocess.CompletedProcess[str]":
        """What `kwanzaa ssh` runs, while the user's own files say the opposite."""
        config = self.folder / "config"
        config.write_text("Host *\n  StrictHostKeyChecking no\n")
        known = known_hosts(access, name, self.folder / "known")
        here = replace(access, user=pwd.getpwuid(os.geteuid()).pw_name)  # root, on a real one
        words = ssh_words(here, name, known, (command,))
        return subprocess.run(
            [words[0], "-F", str(config), *words[1:]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def machines(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    require_tool("ssh")
    if not login.found(os.environ):
        require_tool("sshd")
    folder = tmp_path_factory.mktemp("ssh")
    with RunPodSimulator(folder / "cloud") as simulator:
        environment = {**simulator.environment, "KWANZAA_HOME": str(folder / "home")}
        driver = RunPodDriver(DriverContext(environment, Clock(), simulator.endpoint))
        offer = next(iter(driver.offers()))
        secrets = {"STORE_KEY": Secret(CANARY)}
        words = (sys.executable, "-c", WORK)
        first, second = (
            driver.launch(sample_job(name=name, argv=words, secrets=secrets), offer)
            for name in (ONE, OTHER)
        )
        one, other = reachable(driver, first), reachable(driver, second)
        room = simulator.cloud.room
        yield Machines(one, other, lambda: "\n".join(room.output(first)), folder)


def reachable(driver: RunPodDriver, machine_id: str) -> SSHAccess:
    """The way in, as soon as there is one; its server may take a moment more."""
    clock = Clock()
    last = clock.monotonic() + 60
    while (access := driver.ssh(machine_id)) is None:
        assert clock.monotonic() < last
        clock.sleep(0.05)
    return access


@pytest.mark.slow
def test_the_real_ssh_logs_in_to_the_machine_whose_key_it_knows(machines: Machines) -> None:
    ran = machines.ssh(machines.one, ONE, "echo in; exit 7")
    assert (ran.returncode, ran.stdout) == (7, "in\n"), ran.stderr
    assert "the owner of this machine can log in" in machines.output()


@pytest.mark.slow
def test_the_real_ssh_refuses_whoever_else_answers_there(machines: Machines) -> None:
    """Even another machine of this very user, with a host key of ours."""
    ran = machines.ssh(replace(machines.one, port=machines.other.port), ONE, "echo in")
    assert (ran.returncode, ran.stdout) == (255, "")
    assert "Host key verification failed" in ran.stderr
    known = machines.folder / "known" / f"{ONE}.known_hosts"
    assert known.read_text() == f"{ONE} {machines.one.host_key}\n"  # and it learnt nothing


@pytest.mark.slow
def test_no_other_key_and_no_password_is_let_in(machines: Machines) -> None:
    stranger = login_key(machines.folder / "stranger", "runpod").path
    ran = machines.ssh(replace(machines.one, identity=stranger), ONE, "echo in")
    assert (ran.returncode, ran.stdout) == (255, "")
    assert "Permission denied (publickey)" in ran.stderr


@pytest.mark.slow
def test_who_logs_in_finds_the_images_programs_and_no_secret(machines: Machines) -> None:
    ran = machines.ssh(machines.one, ONE, "env; command -v nvidia-smi")
    found = ran.stdout.splitlines()[-1]
    assert found.startswith(str(machines.folder))
    assert found.endswith("/bin/nvidia-smi")
    for word in ("KWANZAA_LOGIN", "RUNPOD_API_KEY", "simulated-pod-key", CANARY):
        assert word not in ran.stdout


@pytest.mark.slow
def test_the_command_gets_no_key_of_the_servers(machines: Machines) -> None:
    clock = Clock()
    last = clock.monotonic() + 60
    while CANARY not in machines.output():
        assert clock.monotonic() < last
        clock.sleep(0.05)
    assert "KWANZAA_LOGIN" not in machines.output()


# -- what the driver says of it ---------------------------------------------------------------


@pytest.fixture
def machine_id(harness: Harness) -> str:
    """A machine of ours that runs."""
    machine_id = harness.launch(harness.job(ONE, 600))
    driver: Any = harness.driver
    harness.until(lambda: driver.ssh(machine_id) is not None, "it can be reached")
    return machine_id


Address = dict[str, Any]


def direct(host: Any, port: Any = 4711) -> Address:
    return {"ssh": {"proxy": None, "direct": {"host": host, "port": port}}, "runtime": None}


def mapped(**port: Any) -> Address:
    shown = {"private": 22, "public": 4711, "type": "tcp", "ip": "203.0.113.7", **port}
    return {"ssh": {"proxy": PROXY, "direct": None}, "runtime": {"ports": [None, shown]}}


PROXY = {"host": "ssh.runpod.io", "port": 22, "username": "x", "command": "ssh x@ssh.runpod.io"}
REACHABLE = [direct("203.0.113.7"), direct("pod.example"), direct("2001:db8::1"), mapped()]
UNREACHABLE = [
    *map(direct, ("-oProxyCommand=id", "", "a b", "203.0.113.7\n", "a;id", None, 7)),
    *(direct("203.0.113.7", port) for port in (0, -1, 65536, True, "22", None)),
    mapped(private=8888),
    mapped(type="http"),
    mapped(ip=None),
    mapped(public=None),
    {"ssh": {"proxy": PROXY, "direct": None}, "runtime": {"ports": 7}},
    {"ssh": None, "runtime": None},
    {"ssh": [], "runtime": "x"},
]


def shows(simulator: RunPodSimulator, machine_id: str, more: dict[str, Any]) -> None:
    """The next look at the machine shows this as well."""

    def answer(request: Request) -> Reply:
        reply = simulator.server.answer(request)
        assert isinstance(reply.body, dict)
        return Reply(200, {**reply.body, **more})

    simulator.server.interrupt("GET", f"/v2/pods/{machine_id}", answer)


def test_an_address_is_one_or_there_is_no_way_in(
    simulator: RunPodSimulator, driver: RunPodDriver, machine_id: str
) -> None:
    """RunPod's proxy is none either: it shows a host key of its own."""
    for said in REACHABLE:
        shows(simulator, machine_id, said)
        access = driver.ssh(machine_id)
        assert access is not None, said
        assert access.port == 4711
    for said in UNREACHABLE:
        shows(simulator, machine_id, said)
        assert driver.ssh(machine_id) is None, said


def test_there_is_no_way_in_to_a_machine_of_others(
    simulator: RunPodSimulator, driver: RunPodDriver, machine_id: str
) -> None:
    shows(simulator, machine_id, {"name": "somebody-elses"})
    assert driver.ssh(machine_id) is None
    assert driver.ssh("no-such-machine") is None


def test_the_login_keys_private_half_stays_here(
    simulator: RunPodSimulator, machine_id: str, tmp_path: Path
) -> None:
    """The machine is told its own host key, and the public half of the key that it lets in."""
    (made,) = [r.json() for r, _ in simulator.server.exchanges if r.method == "POST"]
    keys = login_key(tmp_path / "home", "runpod")
    assert made["ports"] == ["22/tcp"]
    assert made["env"]["KWANZAA_LOGIN_KEY"] == keys.public
    private = "".join(keys.path.read_text().splitlines()[1:-1])[-60:]
    home = simulator.cloud.room.home(machine_id)
    for text in (
        repr(made),
        *(p.read_text(errors="replace") for p in home.rglob("*") if p.is_file()),
    ):
        assert private not in text


def test_a_login_key_that_is_broken_is_said_before_anything_is_launched(
    simulator: RunPodSimulator, driver: RunPodDriver, tmp_path: Path
) -> None:
    path = login_key(tmp_path / "home", "runpod").path
    path.write_text("no key")
    with pytest.raises(InvalidRequestError, match="SSH key") as caught:
        driver.launch(sample_job(), next(iter(driver.offers())))
    assert caught.value.nothing_was_created
    assert simulator.cloud.sim.machines == {}


# -- on an image without a server -------------------------------------------------------------


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an image's programs; there is no other."""
    monkeypatch.setattr(login, "SYSTEM", str(tmp_path))
    monkeypatch.setattr(login, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(login, "PAUSE_S", 0.0)
    return tmp_path


def test_a_server_that_the_image_lacks_is_installed_and_no_other_is_started(image: Path) -> None:
    """The first try fails, as package mirrors do."""
    script = (
        'echo "$* $DEBIAN_FRONTEND" >>"$0.log"\n'
        'case "$(wc -l <"$0.log") $*" in 4*openssh-server) cp "$0" "${0%/*}/sshd"; esac'
    )
    tool(image, "apt-get", script)
    env = {"PATH": f"{image}:/usr/bin:/bin"}
    assert login.installed(env) == str(image / "sshd")
    assert (image / "apt-get.log").read_text().splitlines() == 2 * [
        "update -qq noninteractive",
        "install -y -qq --no-install-recommends openssh-server noninteractive",
    ]
    assert subprocess.run([image / "policy-rc.d"], check=False).returncode == 101


def test_where_no_server_can_be_had_that_is_said_and_nothing_else_happens(image: Path) -> None:
    assert login.installed({"PATH": str(image)}) == ""
    tool(image, "apt-get", "exit 100")
    assert (
        login.installed({"PATH": f"{image}:/usr/bin:/bin", "KWANZAA_SIMULATED_MACHINE": "1"}) == ""
    )
    assert not (image / "policy-rc.d").exists()
    tool(image, "apt-get", "exit 100")
    assert login.installed({"PATH": f"{image}:/usr/bin:/bin"}) == ""
    source = Path(login.__file__).read_text()
    assert len(packed("login.py")) < len(source)
