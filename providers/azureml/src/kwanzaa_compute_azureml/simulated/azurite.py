"""Azure's blob storage on loopback: Azurite, their own emulator; a process that ends with ours.

It speaks TLS on a free port of 127.0.0.1, keeps everything in memory, knows one account with a key
of its own, and ends when its standard input is closed, however that happens. It is a Node program:

    python -m kwanzaa_compute_azureml.simulated.azurite     installs it, at locked versions

into this Python environment's folder `node`. That needs `node` and `npm`. The versions are those
of the lock in our folder `node`, which is made anew there with `npm install --package-lock-only
--omit-lockfile-registry-resolved`: it holds each package's hash, and names nobody's registry.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from kwanzaa_compute.clock import iso
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.store.sas import VERSION
from kwanzaa_compute.testing.loopback.child import end_child, piped
from kwanzaa_compute_azureml.simulated.authority import Authority

INSTALL = f"python -m {__package__}.azurite"
TOOLS = "install Node.js 20 or newer with npm (Debian: apt install nodejs npm)"
FOLDER = Path(sys.prefix) / "node"
MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")
LOCKED = ("package.json", "package-lock.json")
MADE = "made"
"""Written last: holds the hash of the lock that was installed."""
INSTALL_S = 600
CALL_S = 20
KEPT = ("PATH", "HOME", "LANG", "LC_ALL")

_RUN = "process.stdin.on('end', () => process.exit(0)).resume(); require(process.argv[2])"
_LISTENS = re.compile(rb"successfully listens on https://127\.0\.0\.1:(\d+)")


class Azurite:
    """One server for as long as it is entered; `endpoint` is its account's address."""

    def __init__(self, folder: Path, now: float, authority: Authority | None = None) -> None:
        """Its certificate comes into `folder`, and so does its `authority` where none is given."""
        self._folder = folder
        self.authority = authority or Authority(folder, now)
        self.account = "simulated"
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.endpoint = ""

    def __enter__(self) -> Self:
        """Raises `UsageError` where Azurite is not installed, or does not start."""
        certificate, key = self.authority.server("azurite")
        options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
        # Azure itself knows every version that a client of today speaks.
        options += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        options += ["--cert", str(certificate), "--key", str(key)]
        self._process = subprocess.Popen(
            [node(), "-e", _RUN, "azurite", str(main_script()), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env={
                **{name: os.environ[name] for name in KEPT if name in os.environ},
                "AZURITE_ACCOUNTS": f"{self.account}:{self.key}",
            },
            start_new_session=True,  # Ctrl-C is for us: machines still write to their store
        )
        port = next(filter(None, map(_LISTENS.search, piped(self._process.stdout))), None)
        if port is None:
            self.__exit__()
            raise UsageError("Azurite does not start", mend=f"{TOOLS}, then {INSTALL}")
        self.endpoint = f"https://127.0.0.1:{int(port[1])}/{self.account}"
        return self

    def __exit__(self, *_: object) -> None:
        end_child(self._process)

    @property
    def environment(self) -> dict[str, str]:
        """What reaches the account with its owner's key, and believes its certificate."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_SAS_TOKEN": "",
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
            "AZURE_ALLOW_HTTP": "",
            "KWANZAA_STORE_SAS": "",
            "SSL_CERT_FILE": str(self.authority.bundle),
        }

    def create_container(self, name: str, now: float) -> None:
        """Makes a container, as the account's owner. Raises `UsageError` where that fails."""
        asked = urllib.request.Request(  # noqa: S310 -- our own server
            f"{self.endpoint}/{name}?restype=container&{self._owners_signature(now)}",
            method="PUT",
            headers={"x-ms-version": VERSION},
        )
        trusts = ssl.create_default_context(cafile=str(self.authority.only))
        try:
            urllib.request.urlopen(asked, context=trusts, timeout=CALL_S).close()  # noqa: S310
        except OSError as error:
            raise UsageError(
                f"no container {name!r} can be made", mend="3 to 63 letters a-z, digits and -"
            ) from error

    def _owners_signature(self, now: float) -> str:
        """An account SAS that may create containers, for a minute (not what a machine gets)."""
        start, end = iso(now - 60), iso(now + 60)
        said = (self.account, "c", "b", "c", start, end, "", "https", VERSION, "", "")
        digest = hmac.digest(base64.b64decode(self.key), "\n".join(said).encode(), "sha256")
        names = ("sp", "ss", "srt", "st", "se", "spr", "sv", "sig")
        values = ("c", "b", "c", start, end, "https", VERSION, base64.b64encode(digest).decode())
        return urlencode(dict(zip(names, values, strict=True)))


def node() -> str:
    """The full path of Node. Raises `UsageError` where there is none."""
    found = shutil.which("node")
    if found is None:
        raise UsageError("the simulated Azure needs Node.js, which is not here", mend=TOOLS)
    return found


def main_script() -> Path:
    """The script that starts Azurite. Raises `UsageError` where it is not installed."""
    if not is_installed():
        raise UsageError(
            "the simulated Azure needs Azurite, which is not installed", mend=f"run: {INSTALL}"
        )
    return FOLDER / MAIN


def is_installed() -> bool:
    """Whether this Python environment has Azurite, at the versions of our lock."""
    made = FOLDER / MADE
    return made.is_file() and made.read_text() == _lock_hash()


def install() -> None:
    """Installs Azurite into this Python environment, unless it is there.

    Raises `UsageError` where npm is not here, or cannot have the packages.
    """
    if is_installed():
        return
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise UsageError("Azurite cannot be installed: npm is not here", mend=TOOLS)
    try:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        for name in LOCKED:
            (FOLDER / name).write_bytes(_locked(name))
        # No script of a package's own runs: none of these needs one.
        words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([npm, *words], cwd=FOLDER, check=True, timeout=INSTALL_S)
        (FOLDER / MADE).write_text(_lock_hash())
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(
            f"Azurite cannot be installed into {FOLDER}: {type(error).__name__}",
            mend="see what npm says; a proxy or a registry of your own is set in ~/.npmrc",
        ) from error


def _locked(name: str) -> bytes:
    return files(__package__).joinpath("node", name).read_bytes()


def _lock_hash() -> str:
    return hashlib.sha256(_locked("package-lock.json")).hexdigest()


def main() -> int:
    """Installs Azurite, and says in one line what is missing where it cannot."""
    try:
        install()
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
