"""Runs on the machine beside its command: an SSH server that lets one key in.

Like `guard` it is sent as it stands, in an environment variable, and needs nothing but Python's
standard library. It takes the sshd of the image, or has the image's own package manager install
one, which checks signatures. There is no password, no key of the account's, and no host key but
the one that was made for this machine before the machine was: whoever connects knows it.

    KWANZAA_LOGIN_HOST_KEY   the private half of the host key: OpenSSH's file, in base64
    KWANZAA_LOGIN_KEY        the public key that is let in, as a line
    KWANZAA_LOGIN_AT         where to listen (0.0.0.0:22)

Where no server can be had the log says so. The machine's work does not depend on it.
"""

import base64
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"
POLICY = Path("/usr/sbin/policy-rc.d")
INSTALL = (
    ("apt-get", "update", "-qq"),
    ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "openssh-server"),
)
INSTALL_S, TRIES, PAUSE_S = 300.0, 3, 5.0
# The folder is this user's alone; what lies above it is the image's, and `StrictModes` minds that.
# Without PAM: its modules expect more of a machine than a container is. And whoever knocks at this
# port, as strangers do all day, shall not fill the log.
CONFIG = """\
ListenAddress {at}
HostKey "{folder}/host_key"
AuthorizedKeysFile "{folder}/authorized_keys"
StrictModes no
UsePAM no
AllowUsers {user}
AuthenticationMethods publickey
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowAgentForwarding no
X11Forwarding no
PermitUserEnvironment no
SetEnv "PATH={path}"
PidFile none
LoginGraceTime 30
LogLevel FATAL
Subsystem sftp internal-sftp
"""


def main(env: Mapping[str, str]) -> NoReturn:
    """Becomes the server, or exits where there is none."""
    server = found(env) or installed(env)
    if not server:
        say("this image has no SSH server and none could be installed: nobody can log in")
        sys.exit(1)
    become(server, written(Path.home() / ".kwanzaa-login", env), env)


def become(server: str, config: Path, env: Mapping[str, str]) -> NoReturn:
    """Takes the server's place, with nothing of the machine's environment."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)  # sshd locks its helpers up in there
    say("the owner of this machine can log in")
    words = [server, "-D", "-e", "-f", str(config)]
    os.execve(server, words, {"PATH": env.get("PATH", SYSTEM)})  # noqa: S606 -- no shell is wanted


def found(env: Mapping[str, str]) -> str:
    """The image's sshd, with its whole path as it wants to be called; empty: there is none."""
    return shutil.which("sshd", path=f"{env.get('PATH', '')}:{SYSTEM}") or ""


def installed(env: Mapping[str, str]) -> str:
    """The sshd that the image's package manager brings; empty where that fails.

    A simulated machine's image is somebody's own computer: nothing is installed there.
    """
    if env.get("KWANZAA_SIMULATED_MACHINE") or not shutil.which("apt-get", path=env.get("PATH")):
        return ""
    _start_no_services()
    quiet = {**env, "DEBIAN_FRONTEND": "noninteractive"}
    for tried in range(TRIES):
        time.sleep(PAUSE_S * tried)
        with suppress(subprocess.TimeoutExpired):
            for words in INSTALL:
                subprocess.run(
                    words, env=quiet, stdout=subprocess.DEVNULL, check=False, timeout=INSTALL_S
                )
        if server := found(env):
            return server
    return ""


def _start_no_services() -> None:
    """As Debian has it: an sshd with host keys of its own must never listen here."""
    with suppress(OSError), POLICY.open("x") as file:
        file.write("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)


def written(folder: Path, env: Mapping[str, str]) -> Path:
    """The server's configuration and keys, below a folder that nobody else can read."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    files = {
        "host_key": base64.b64decode(env["KWANZAA_LOGIN_HOST_KEY"]),
        "authorized_keys": f"{env['KWANZAA_LOGIN_KEY']}\n".encode(),
        "sshd_config": CONFIG.format(
            at=env.get("KWANZAA_LOGIN_AT", "0.0.0.0:22"),
            folder=folder,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            path=env.get("PATH", SYSTEM),
        ).encode(),
    }
    for name, content in files.items():
        (folder / name).unlink(missing_ok=True)  # of an earlier start of this machine
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return folder / "sshd_config"


def say(words: str) -> None:
    """A line in the machine's log."""
    print(f"kwanzaa login: {words}", flush=True)


if __name__ == "__main__":
    try:
        main(dict(os.environ))
    except (OSError, KeyError, ValueError) as problem:
        say(f"nobody can log in: {type(problem).__name__}")
        sys.exit(1)
