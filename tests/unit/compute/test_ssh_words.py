"""The words of the ssh command: strict, and never more than an address."""

from pathlib import Path

import pytest

from kwanzaa_compute.compute.ssh_words import known_hosts, ssh_words
from kwanzaa_compute.drivers.contract import SSHAccess
from kwanzaa_compute.errors import TransientError

ACCESS = SSHAccess("203.0.113.7", "ubuntu", "ssh-ed25519 AAAA kwanzaa", Path("/keys/id"), 2222)
NAME = "kwz-me-r1-1"


def test_the_host_key_is_known_and_nothing_else_is_taken(tmp_path: Path) -> None:
    known = known_hosts(ACCESS, NAME, tmp_path / "ssh")
    assert known.read_text() == f"{NAME} ssh-ed25519 AAAA\n"
    words = ssh_words(ACCESS, NAME, known, ("nvidia-smi", "-L"))
    for option in (
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={known}",
        "GlobalKnownHostsFile=/dev/null",
        f"HostKeyAlias={NAME}",
        "HostKeyAlgorithms=ssh-ed25519",
        "UpdateHostKeys=no",
        "ForwardAgent=no",
        "ConnectionAttempts=40",
    ):
        assert words[words.index(option) - 1] == "-o"
    assert words[:5] == ["ssh", "-i", "/keys/id", "-p", "2222"]
    assert words[-4:] == ["--", "ubuntu@203.0.113.7", "nvidia-smi", "-L"]


def test_what_was_known_of_an_earlier_machine_is_forgotten(tmp_path: Path) -> None:
    known_hosts(ACCESS, NAME, tmp_path)
    other = SSHAccess("203.0.113.8", "ubuntu", "ssh-ed25519 BBBB", Path("/keys/id"))
    assert known_hosts(other, NAME, tmp_path).read_text() == f"{NAME} ssh-ed25519 BBBB\n"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("host", "user"),
    [("-oProxyCommand=id", "u"), ("h", "-l"), ("h\n", "u"), ("h", "u\x1b[31m")],
)
def test_an_address_that_is_an_option_is_refused(tmp_path: Path, host: str, user: str) -> None:
    with pytest.raises(TransientError, match="address"):
        ssh_words(SSHAccess(host, user, "ssh-ed25519 A", Path("k")), NAME, tmp_path)
