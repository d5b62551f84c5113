"""A certificate authority for one simulation: what it signs is believed on 127.0.0.1 alone.

Its key never leaves this process. Its certificate is limited to loopback addresses, so that a
client that trusts it trusts nobody new. `SSL_CERT_FILE` is how clients are told: OpenSSL and with
it Python, curl and obstore read the variable (requests: `REQUESTS_CA_BUNDLE`).
"""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate, CertificateBuilder, Name

NAME = "kwanzaa simulation, loopback only"
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
DAYS = 30
EARLIER = timedelta(hours=1)


class Authority:
    """Certificates for servers on 127.0.0.1, and the files with which clients trust them."""

    def __init__(self, folder: Path, now: float) -> None:
        """Files come into `folder`; certificates hold for 30 days from `now` (epoch seconds)."""
        from cryptography.hazmat.primitives.asymmetric import ec

        self._folder = folder
        self._now = datetime.fromtimestamp(now, UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = _pem(self._own_certificate())
        """Its certificate, alone."""
        self.only = folder / "simulated-authority.pem"
        """The same as a file."""
        self.bundle = folder / "simulated-roots.pem"
        """With the roots that this machine trusts anyway: for what also speaks to the world."""
        folder.mkdir(parents=True, exist_ok=True)
        self.only.write_bytes(self.pem)
        self.bundle.write_bytes(_system_roots() + self.pem)

    def server(self, name: str) -> tuple[Path, Path]:
        """A new server's certificate and its private key, as files (the key's has mode 0600)."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        signed = self._signed(
            self._about(name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([here]), critical=False)
            .add_extension(server_auth, critical=False)
        )
        certificate, secret = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(_pem(signed) + self.pem)
        secret.touch(mode=0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def _own_certificate(self) -> "Certificate":
        from cryptography import x509

        nobody = x509.DNSName("")  # forbids every name: what is left are addresses
        limits = x509.NameConstraints([x509.IPAddress(LOOPBACK)], [nobody])
        may = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **may)
        return self._signed(
            self._about(NAME, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(limits, critical=True)
        )

    def _about(self, name: str, public: "EllipticCurvePublicKey") -> "CertificateBuilder":
        from cryptography import x509

        return (
            x509.CertificateBuilder()
            .subject_name(_common_name(name))
            .issuer_name(_common_name(NAME))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - EARLIER)
            .not_valid_after(self._now + timedelta(days=DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _signed(self, builder: "CertificateBuilder") -> "Certificate":
        from cryptography.hazmat.primitives import hashes

        return builder.sign(self._key, hashes.SHA256())


def _common_name(name: str) -> "Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _system_roots() -> bytes:
    """What OpenSSL trusts here; nothing where it has no such file."""
    where = ssl.get_default_verify_paths().cafile
    return Path(where).read_bytes() if where and Path(where).is_file() else b""
