"""The words of an `ssh` command that trusts one host key and no other."""

import os
from pathlib import Path

from kwanzaa_compute.drivers.contract import SSHAccess
from kwanzaa_compute.errors import TransientError


def known_hosts(access: SSHAccess, name: str, folder: Path) -> Path:
    """A file below `folder` that knows the machine of that name by its one key."""
    path = folder / f"{name}.known_hosts"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = f"{name} {' '.join(access.host_key.split()[:2])}\n"
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    mine.write_text(line, encoding="utf-8")
    mine.replace(path)  # never half of it, for whoever connects at this moment
    return path


def ssh_words(
    access: SSHAccess, name: str, known: Path, command: tuple[str, ...] = ()
) -> list[str]:
    """The command line: strict about the host key, whatever the user's own files say.

    The machine is looked up by `name`, not by its address, which was somebody else's yesterday.
    Raises `TransientError` for a host or user that would be read as an option.
    """
    if any(part.startswith("-") or not part.isprintable() for part in (access.host, access.user)):
        raise TransientError("the provider names an address that is none")
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": name,
        "CheckHostIP": "no",
        "HostKeyAlgorithms": access.host_key.split()[0],
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "IdentitiesOnly": "yes",
        "PasswordAuthentication": "no",
        "ForwardAgent": "no",
        # A machine has its address before its server is up.
        "ConnectionAttempts": "40",
        "ConnectTimeout": "5",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    where = ["-i", str(access.identity), "-p", str(access.port)]
    return ["ssh", *where, *words, "--", f"{access.user}@{access.host}", *command]
