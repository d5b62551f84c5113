"""Host keys that are known before anybody connects, with the real `ssh` against a real server.

The server stands for the machine's: it has the host key that cloud-init would have installed from
the `user_data` that Lambda was sent, and lets in the one key that Lambda was told of.
"""

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from kwanzaa_compute.compute.ssh_words import known_hosts, ssh_words
from kwanzaa_compute.drivers.contract import SSHAccess
from kwanzaa_compute.drivers.ssh_keys import login_key
from kwanzaa_compute.testing.loopback import Command
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_lambda_cloud.cloud_init import parse
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

NAME = "kwz-me-s1-1"


@pytest.fixture
def access(simulator: LambdaSimulator, driver: LambdaDriver) -> SSHAccess:
    machine_id = driver.launch(
        sample_job(name=NAME, argv=("sleep", "600")), next(iter(driver.offers()))
    )
    access = None
    while access is None:
        access = driver.ssh(machine_id)
    return access


@contextmanager
def machine(simulator: LambdaSimulator, host_key: str) -> Iterator[int]:
    """An SSH server that lets in whom Lambda knows; its port."""
    (public,) = [key["public_key"] for key in simulator.ssh_keys.values()]
    ready, end = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    def greet(process: "asyncssh.SSHServerProcess[str]") -> None:
        process.stdout.write(f"{process.get_extra_info('username')} ran {process.command}\n")
        process.exit(0)

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.import_private_key(host_key)],
            authorized_client_keys=asyncssh.import_authorized_keys(public),
            process_factory=greet,
        )
        async with server:
            found.update(port=server.get_port(), loop=asyncio.get_running_loop())
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield found["port"]
    finally:
        found["loop"].call_soon_threadsafe(end.set)
        thread.join()


def installed_host_key(simulator: LambdaSimulator) -> str:
    """The host key of the newest machine, as cloud-init finds it."""
    command = list(simulator.cloud.sim.machines.values())[-1].command
    assert isinstance(command, Command)
    document = parse(command.files["user-data.txt"].decode())
    return str(document["ssh_keys"]["ed25519_private"])


def log_in(access: SSHAccess, folder: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    words = ssh_words(access, NAME, known_hosts(access, NAME, folder), ("uptime; id",))
    # A user's own files say the opposite: they must not be listened to where it matters.
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh" / "config").write_text("Host *\n  StrictHostKeyChecking no\n")
    return subprocess.run(
        [words[0], "-F", str(home / ".ssh" / "config"), *words[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_the_real_ssh_logs_in_to_the_machine_whose_key_it_knows(
    simulator: LambdaSimulator,
    access: SSHAccess,
    tmp_path: Path,
    require_tool: Callable[[str], str],
) -> None:
    require_tool("ssh")
    with machine(simulator, installed_host_key(simulator)) as port:
        ran = log_in(replace(access, port=port), tmp_path / "known", tmp_path / "user")
    assert (ran.returncode, ran.stdout) == (0, "ubuntu ran uptime; id\n"), ran.stderr


@pytest.mark.slow
def test_the_real_ssh_refuses_whoever_else_answers_there(
    simulator: LambdaSimulator,
    driver: LambdaDriver,
    access: SSHAccess,
    tmp_path: Path,
    require_tool: Callable[[str], str],
) -> None:
    """Even another machine of this very user, with a host key of ours."""
    require_tool("ssh")
    driver.launch(
        sample_job(name="kwz-me-s2-1", argv=("sleep", "600")), next(iter(driver.offers()))
    )
    with machine(simulator, installed_host_key(simulator)) as port:
        ran = log_in(replace(access, port=port), tmp_path / "known", tmp_path / "user")
    assert ran.returncode == 255
    assert "ran" not in ran.stdout
    assert "Host key verification failed" in ran.stderr
    text = (tmp_path / "known" / f"{NAME}.known_hosts").read_text()
    assert text == f"{NAME} {access.host_key}\n"  # and it learnt nothing


def test_the_key_is_told_to_lambda_once_and_found_again_by_name(
    simulator: LambdaSimulator, make_driver: Callable[[LambdaSimulator], LambdaDriver]
) -> None:
    offer = next(iter(make_driver(simulator).offers()))
    for number in (1, 2):
        make_driver(simulator).launch(sample_job(name=f"kwz-me-s3-{number}"), offer)
    assert len(simulator.ssh_keys) == 1
    added = [r for r, _ in simulator.server.exchanges if r.method == "POST" and "ssh" in r.path]
    assert len(added) == 1
    assert b"PRIVATE" not in added[0].body


def test_a_key_that_was_deleted_there_is_told_again(
    simulator: LambdaSimulator, driver: LambdaDriver
) -> None:
    offer = next(iter(driver.offers()))
    driver.launch(sample_job(name="kwz-me-s4-1"), offer)
    simulator.ssh_keys.clear()
    with pytest.raises(Exception, match="SSH key") as caught:
        driver.launch(sample_job(name="kwz-me-s4-2"), offer)
    assert driver.classify(caught.value).nothing_was_created
    assert driver.launch(sample_job(name="kwz-me-s4-3"), offer)


def test_a_key_of_our_name_that_is_not_ours_is_not_used(
    simulator: LambdaSimulator, driver: LambdaDriver, tmp_path: Path
) -> None:
    offer = next(iter(driver.offers()))
    name = login_key(tmp_path / "home", "lambda").name
    other = login_key(tmp_path / "other", "lambda").public
    simulator.ssh_keys["k"] = {"id": "k", "name": name, "public_key": other}
    with pytest.raises(Exception, match="nothing was launched") as caught:
        driver.launch(sample_job(name="kwz-me-s5-1"), offer)
    meaning = driver.classify(caught.value)
    assert "not the one" in meaning.message
    assert meaning.nothing_was_created
