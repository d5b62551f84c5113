"""The keys of SSH: one that lets this user in, and for each machine the one that proves it is it.

A driver that claims `Feature.SSH` makes a machine's host key here, before the machine is, and
sends it along with the job. So it is known before anybody connects, and never accepted on sight.
It is derived from the user's own login key and the machine's name: there is nothing to remember
for each machine, and no machine can learn another one's key from its own.

What that means for secrecy: the provider, and whoever has root on that machine, can read the
private half of that one machine's host key, as they could if the machine had made it itself. The
login key's private half never leaves this computer.

A package that builds on this declares cryptography, which is imported when a key is first needed.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

_HOST_KEY = b"kwanzaa-compute ssh host key v1\0"


@dataclass(frozen=True, slots=True)
class HostKey:
    """A machine's host key: the private half as OpenSSH's file, the public one as its line."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"HostKey(***, {self.public!r})"


@dataclass(frozen=True, slots=True)
class LoginKey:
    """The key that this user logs in with: `path` holds its private half, mode 0600."""

    path: Path

    @property
    def public(self) -> str:
        """Its public half as OpenSSH writes it: type and key, no comment."""
        return _public_line(self._seed())

    @property
    def name(self) -> str:
        """What it is called at a provider that keeps it: the same key always by the same name."""
        return f"kwanzaa-{hashlib.sha256(self.public.encode()).hexdigest()[:12]}"

    def host_key(self, machine_name: str) -> HostKey:
        """The host key of the machine of that name."""
        seed = hmac.digest(self._seed(), _HOST_KEY + machine_name.encode(), "sha256")
        return HostKey(_private_file(seed), _public_line(seed))

    def _seed(self) -> bytes:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = serialization.load_ssh_private_key(self.path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{self.path} is not the ed25519 key that was made there")
        return key.private_bytes_raw()


def login_key(home: Path, provider: str) -> LoginKey:
    """The login key of this user for the machines of a provider, below `home`; made once."""
    path = home / provider / "id_ed25519"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mine = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(_private_file(os.urandom(32)))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(mine, path)  # whoever comes second keeps the first one's key
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return LoginKey(path)


def _public_line(seed: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _private_file(seed: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
