"""Azurite as a process of ours: TLS for loopback alone, and an end that nothing prevents."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute_azureml.simulated import azurite as module
from kwanzaa_compute_azureml.simulated.authority import Authority
from kwanzaa_compute_azureml.simulated.azurite import Azurite

ABANDONED = """
import os, sys, pathlib
from kwanzaa_compute.clock import Clock
from kwanzaa_compute_azureml.simulated.azurite import Azurite
server = Azurite(pathlib.Path(sys.argv[1]), Clock().now()).__enter__()
print(server._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
PATIENCE_S = 10


def test_a_client_that_trusts_its_authority_is_answered(azurite: Azurite) -> None:
    """By the authority alone and by the bundle; the address needs a signature all the same."""
    for roots in (azurite.authority.only, azurite.authority.bundle):
        trusts = ssl.create_default_context(cafile=str(roots))
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{azurite.endpoint}?comp=list", context=trusts, timeout=PATIENCE_S)
        assert caught.value.code == 403
        caught.value.close()


def test_nobody_else_believes_it(azurite: Azurite) -> None:
    with pytest.raises(OSError, match="certificate verify failed"):
        urlopen(azurite.endpoint, context=ssl.create_default_context(), timeout=PATIENCE_S)


def test_the_authority_is_believed_on_loopback_alone(tmp_path: Path) -> None:
    """Whoever trusts it trusts no new name in the world, were its key to escape."""
    from cryptography import x509

    authority = Authority(tmp_path, Clock().now())
    made = x509.load_pem_x509_certificate(authority.pem)
    limits = made.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert [str(one.value) for one in limits.value.permitted_subtrees or ()] == ["127.0.0.0/8"]
    assert [one.value for one in limits.value.excluded_subtrees or ()] == [""]
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {authority.only.name, authority.bundle.name}, "its key is nowhere"


def test_a_servers_key_is_its_owners_alone(tmp_path: Path) -> None:
    _, key = Authority(tmp_path, Clock().now()).server("x")
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_it_ends_when_we_are_killed(azurite: Azurite, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", ABANDONED, str(tmp_path)], stdout=subprocess.PIPE, check=False
    )
    pid = int(told.stdout)
    clock = Clock()
    last = clock.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}/cmdline").exists() and _is_node(pid):
        assert clock.monotonic() < last, "it is still there"
        clock.sleep(0.05)


def _is_node(pid: int) -> bool:
    try:
        return b"azurite" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_the_owners_key_stands_in_no_argv_and_no_file(azurite: Azurite) -> None:
    words = Path(f"/proc/{azurite._process.pid}/cmdline").read_text()
    assert azurite.key not in words
    for path in azurite._folder.iterdir():
        assert azurite.key.encode() not in path.read_bytes()


@pytest.mark.parametrize("what", ["node", "azurite"])
def test_what_is_missing_is_said_with_the_command_that_installs_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "node":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(module, "FOLDER", tmp_path / "node")
        monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UsageError) as caught, Azurite(tmp_path, Clock().now()):
        pass
    assert ("apt install nodejs npm" if what == "node" else module.INSTALL) in caught.value.mend


def test_without_npm_nothing_is_installed_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path / "node")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.main() == 2
    assert "npm is not here" in capsys.readouterr().err
    assert not (tmp_path / "node").exists()


def test_a_registry_that_cannot_be_had_leaves_nothing_that_passes_for_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("npm", "node"):
        (tools / name).write_text("#!/bin/sh\necho 'ERR! network' >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "node")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert module.main() == 2
    said = capfd.readouterr().err
    assert "cannot be installed" in said
    assert "ERR! network" in said
    assert not module.is_installed()


def test_every_package_is_locked_by_its_hash_and_comes_from_whatever_registry_is_set() -> None:
    wanted = json.loads(module._locked("package.json"))["dependencies"]
    packages = json.loads(module._locked("package-lock.json"))["packages"]
    assert packages.pop("")["dependencies"] == wanted
    assert packages["node_modules/azurite"]["version"] == wanted["azurite"]
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_the_environment_is_whole(azurite: Azurite, owner: Mapping[str, str]) -> None:
    """It takes the place of the user's own variables, those that it has no value for as well."""
    assert urlsplit(owner["AZURE_STORAGE_ENDPOINT"]).scheme == "https"
    assert {"AZURE_STORAGE_SAS_TOKEN", "KWANZAA_STORE_SAS"} <= owner.keys()
