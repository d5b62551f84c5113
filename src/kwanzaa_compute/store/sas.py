"""A signature (SAS) for one container of an Azure storage account, made from the account's key.

Azure has no narrower right than the container for accounts without a hierarchical namespace, so
give runs a container of their own. The string to sign is that of a service SAS, version
2020-12-06 (https://learn.microsoft.com/rest/api/storageservices/create-service-sas).
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from kwanzaa_compute.clock import iso
from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store.grants import StoreGrant

VERSION = "2020-12-06"
PERMISSIONS = "racwdl"
SKEW_S = 900.0
"""The account's clock may be behind ours."""


def grant(store_url: str, environment: Mapping[str, str], hours: float, now: float) -> StoreGrant:
    """A right to the container of `store_url` (`az://container/folder`) for so many hours.

    Raises `CredentialsError` where the account's key is none.
    """
    account = environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    container = urlsplit(store_url).netloc
    token = container_sas(
        account,
        container,
        environment["AZURE_STORAGE_ACCOUNT_KEY"],
        starts=iso(now - SKEW_S),
        ends=iso(now + hours * 3600),
        plain_http=environment.get("AZURE_ALLOW_HTTP", "").lower() == "true",
    )
    return StoreGrant(secrets={"AZURE_STORAGE_SAS_TOKEN": Secret(token)})


def container_sas(
    account: str, container: str, key: str, *, starts: str, ends: str, plain_http: bool = False
) -> str:
    """The SAS token (a query string) for a container; times in ISO 8601, UTC."""
    protocol = "https,http" if plain_http else "https"
    resource = f"/blob/{account}/{container}"
    unused = [""] * 7  # snapshot time, encryption scope and five response headers
    lines = [PERMISSIONS, starts, ends, resource, "", "", protocol, VERSION, "c", *unused]
    try:
        secret = base64.b64decode(key, validate=True)
    except (ValueError, binascii.Error):
        raise CredentialsError(
            "the storage account's key is not what Azure gives out",
            mend="set AZURE_STORAGE_ACCOUNT_KEY to one of the account's two keys",
        ) from None
    signature = base64.b64encode(hmac.digest(secret, "\n".join(lines).encode(), "sha256"))
    return urlencode(
        {
            "sv": VERSION,
            "sr": "c",
            "sp": PERMISSIONS,
            "st": starts,
            "se": ends,
            "spr": protocol,
            "sig": signature.decode(),
        }
    )
