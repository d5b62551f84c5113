"""Who we are to Azure: a credential of Azure's own library, made from what the driver was given.

Its usual chain would look into this process's environment, into files, and ask the address of a
virtual machine's metadata. Here it is a service principal's secret, a federated token (a CI job's
or a cluster's), or else whoever is signed in to Azure's command line.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.errors import CredentialsError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

TENANT, CLIENT = "AZURE_TENANT_ID", "AZURE_CLIENT_ID"
SECRET, TOKEN_FILE = "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"
AUTHORITY = "AZURE_AUTHORITY_HOST"
CLI_S = 20


def credential_of(
    environment: Mapping[str, str], transport: Mapping[str, Any]
) -> "TokenCredential":
    """The credential; `transport` says how its own calls travel. Asks nobody yet.

    Raises `CredentialsError` where there is none, or half of one.
    """
    from azure.identity import (
        AzureCliCredential,
        ClientSecretCredential,
        WorkloadIdentityCredential,
    )

    given = {name: environment.get(name, "") for name in (TENANT, CLIENT, SECRET, TOKEN_FILE)}
    words: dict[str, Any] = dict(transport)
    if authority := environment.get(AUTHORITY):
        words |= {"authority": authority, "disable_instance_discovery": True}
    if given[SECRET] or given[TOKEN_FILE]:
        if missing := [name for name in (TENANT, CLIENT) if not given[name]]:
            raise _none(f"{missing[0]} is not set")
        if given[SECRET]:
            return ClientSecretCredential(given[TENANT], given[CLIENT], given[SECRET], **words)
        if not Path(given[TOKEN_FILE]).is_file():
            raise _none(f"{TOKEN_FILE} names no file")
        return WorkloadIdentityCredential(
            tenant_id=given[TENANT],
            client_id=given[CLIENT],
            token_file_path=given[TOKEN_FILE],
            **words,
        )
    if shutil.which("az", path=environment.get("PATH")):
        return AzureCliCredential(process_timeout=CLI_S)
    raise _none("there are no Azure credentials")


def _none(what: str) -> CredentialsError:
    return CredentialsError(
        f"Azure ML: {what}",
        mend=f"az login, or set {TENANT}, {CLIENT} and {SECRET}",
        nothing_was_created=True,
    )
