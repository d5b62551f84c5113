"""Signatures (SAS) of an Azure storage account, made from its key: for a container or one object.

Azure has no narrower right to write than the container for accounts without a hierarchical
namespace, so give runs a container of their own. The string to sign is that of a service SAS,
version 2020-12-06 (https://learn.microsoft.com/rest/api/storageservices/create-service-sas).
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from kwanzaa_compute.clock import iso
from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.secret import Secret

VERSION = "2020-12-06"
PERMISSIONS = "racwdl"
NEEDED = frozenset("rcwdl")
"""What a machine cannot do without; `a` is for append blobs, which nothing of ours writes."""
HOW_TO_MAKE_ONE = (
    "export KWANZAA_STORE_SAS=$(az storage container generate-sas --name CONTAINER --https-only"
    " --permissions racwdl --expiry WHEN --auth-mode login --as-user --output tsv)"
)
SKEW_S = 900.0
"""The account's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class Right:
    """What is allowed, and on what."""

    kind: str
    """`c`: a container and all objects in it; `b`: one object."""
    resource: str
    """`/blob/<account>/<container>`, and for an object `/<its name>` (not percent-encoded)."""
    permissions: str
    """In the order that Azure wants: read, add, create, write, delete, list (`racwdl`)."""
    protocol: str = "https"


Lifetime = tuple[str, str]
"""From when and until when, in ISO 8601, UTC."""


def for_container(
    store_url: str, environment: Mapping[str, str], hours: float, now: float
) -> Secret:
    """A signature for the container of `store_url` (`az://container/folder`) for so many hours.

    Raises `CredentialsError` where the account's key is none.
    """
    account = environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    resource = f"/blob/{account}/{urlsplit(store_url).netloc}"
    right = Right("c", resource, PERMISSIONS, protocols(environment))
    return Secret(sign(right, environment["AZURE_STORAGE_ACCOUNT_KEY"], lifetime(now, hours)))


def hours_left(token: str, now: float, *, margin_hours: float) -> float | None:
    """For how many hours a signature that somebody made will do, less a margin.

    None where it does not say: then the container's own policy does. Raises `CredentialsError`
    where a machine could not work with it; never shows it.
    """
    held = dict(parse_qsl(token.removeprefix("?")))
    ends = held.get("se", "")
    at = _time(ends) if ends else None
    if "sig" not in held or (ends and at is None):
        raise _refused("is no SAS token")
    if held.get("sr", "c") != "c":
        raise _refused("is not for a container")
    missing = NEEDED - set(held.get("sp", NEEDED))
    if missing:
        raise _refused(f"lacks the permissions {', '.join(sorted(missing))}")
    if at is None:
        return None
    left = (at - now) / 3600 - margin_hours
    if left <= 0:
        raise _refused(f"{'ran' if at <= now else 'runs'} out at {iso(at)}")
    return left


def _refused(what: str) -> CredentialsError:
    return CredentialsError(f"the signature for machines {what}", mend=HOW_TO_MAKE_ONE)


def _time(text: str) -> float | None:
    """A time as Azure takes it, to the day, the minute or the second, in UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def lifetime(now: float, hours: float) -> Lifetime:
    """So many hours from now, and the time by which a clock may be behind."""
    return iso(now - SKEW_S), iso(now + hours * 3600)


def protocols(environment: Mapping[str, str]) -> str:
    """The protocols that a signature holds for: plain HTTP too where the user allows it."""
    plain = environment.get("AZURE_ALLOW_HTTP", "").lower() == "true"
    return "https,http" if plain else "https"


def sign(right: Right, key: str, holds: Lifetime) -> str:
    """The SAS token (a query string). Raises `CredentialsError` for a key that is none."""
    unused = [""] * 7  # snapshot time, encryption scope and five response headers
    starts, ends = holds
    about = [right.permissions, starts, ends, right.resource, "", "", right.protocol]
    lines = [*about, VERSION, right.kind, *unused]
    digest = hmac.digest(key_bytes(key), "\n".join(lines).encode(), "sha256")
    return urlencode(
        {
            "sv": VERSION,
            "sr": right.kind,
            "sp": right.permissions,
            "st": starts,
            "se": ends,
            "spr": right.protocol,
            "sig": base64.b64encode(digest).decode(),
        }
    )


def key_bytes(key: str) -> bytes:
    """An account's key as Azure gives it out, decoded. Raises `CredentialsError` for another."""
    try:
        return base64.b64decode(key, validate=True)
    except (ValueError, binascii.Error):
        raise CredentialsError(
            "the storage account's key is not what Azure gives out",
            mend="set AZURE_STORAGE_ACCOUNT_KEY to one of the account's two keys",
        ) from None
