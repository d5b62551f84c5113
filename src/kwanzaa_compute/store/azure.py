"""`az://<container>/<folder>`: a folder of a container in an Azure storage account.

    AZURE_STORAGE_ACCOUNT_NAME     whose container it is
    AZURE_STORAGE_ACCOUNT_KEY      the account's key: may do everything
    AZURE_STORAGE_SAS_TOKEN        or a signature for the container: what a machine gets
    AZURE_STORAGE_ENDPOINT         another address than https://<account>.blob.core.windows.net

Without a key or a signature, the client looks for an identity by itself: that of `az login`, of a
service principal, of the machine.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from kwanzaa_compute.errors import CredentialsError, StoreDeniedError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import sas

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        AzureCredential,
        AzureStore,
        ClientConfig,
        RetryConfig,
    )

ACCOUNT, ENDPOINT = "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"
KEY, SIGNATURE = "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"
LIMITED = "KWANZAA_STORE_SAS"
"""A signature that the user made for machines."""


def container_store(
    url: str, client: "ClientConfig", retry: "RetryConfig", environment: Mapping[str, str]
) -> "AzureStore":
    """The folder that a URL names, with the credentials of this environment. Asks nobody yet.

    What stands in the environment is handed over whole: nothing of it is joined with what the
    process's own environment holds. Raises `CredentialsError` where no account is named, or what
    should be a key is none.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore

    if environment.get("AZURE_ALLOW_HTTP", "").lower() == "true":
        # With options of ours, the client does not look for this variable by itself.
        client["allow_http"] = True
    config: AzureConfig = {"account_name": _account(environment)}
    if endpoint := environment.get(ENDPOINT):
        config["endpoint"] = endpoint
    credential = _credential_of(environment)
    try:
        return AzureStore.from_url(
            url,
            config=config,
            client_options=client,
            retry_config=retry,
            credential_provider=credential,
        )
    except BaseError:  # its text may hold a key: the client reads the process's variables too
        raise CredentialsError(
            f"what the environment says of {url} cannot be used",
            mend="look at the variables that begin with AZURE_STORAGE_",
        ) from None


def signed_url(
    url: str, environment: Mapping[str, str], path: str, *, hours: float, now: float
) -> Secret | None:
    """A URL that one object of the folder at `url` can be read at, made from the account's key.

    It holds from a quarter of an hour ago: the account's clock may be behind ours. Where there is
    no key, it bears the limited signature that the user made for machines. None where the client
    has to ask Azure for one; raises `StoreDeniedError` where there is nothing to sign with.
    """
    account, parts = _account(environment), urlsplit(url)
    name = "/".join(filter(None, (parts.netloc, parts.path.strip("/"), path)))
    if key := environment.get(KEY):
        right = sas.Right("b", f"/blob/{account}/{name}", "r", sas.protocols(environment))
        token = sas.sign(right, key, sas.lifetime(now, hours))
    elif limited := environment.get(LIMITED):
        token = limited.removeprefix("?")
    elif environment.get(SIGNATURE):
        raise StoreDeniedError(
            f"a signature cannot sign for {path} in {url}", mend=f"set {KEY}, or {LIMITED}"
        )
    else:
        return None
    address = environment.get(ENDPOINT) or f"https://{account}.blob.core.windows.net"
    return Secret(f"{address.rstrip('/')}/{quote(name)}?{token}")


def _account(environment: Mapping[str, str]) -> str:
    if account := environment.get(ACCOUNT):
        return account
    raise CredentialsError(
        "a store at az:// needs the name of its storage account",
        mend=f"set {ACCOUNT} and {KEY}",
    )


def _credential_of(environment: Mapping[str, str]) -> "Callable[[], AzureCredential] | None":
    held: AzureCredential
    if key := environment.get(KEY):
        sas.key_bytes(key)
        held = {"access_key": key, "expires_at": None}
    elif token := environment.get(SIGNATURE):
        if "sig=" not in token:
            raise CredentialsError(
                f"{SIGNATURE} holds no signature", mend="paste the whole SAS token: sv=...&sig=..."
            )
        held = {"sas_token": token.removeprefix("?"), "expires_at": None}
    else:
        return None
    return lambda: held
