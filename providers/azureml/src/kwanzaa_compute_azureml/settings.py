"""What a user sets for Azure ML, read from the environment once and checked when it is needed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from kwanzaa_compute.errors import CredentialsError, InvalidRequestError, ProviderError

SUBSCRIPTION = "AZURE_SUBSCRIPTION_ID"
WORKSPACE = "KWANZAA_AZUREML_WORKSPACE"
REGION = "KWANZAA_AZUREML_REGION"
DATASTORE = "KWANZAA_AZUREML_DATASTORE"
IMAGE = "KWANZAA_AZUREML_IMAGE"
COMPUTE = "KWANZAA_AZUREML_COMPUTE"

SERVERLESS, CLUSTER = "serverless", "cluster"

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORKSPACE = re.compile(r"[\w.()-]{1,90}/[A-Za-z0-9][A-Za-z0-9_-]{1,254}", re.ASCII)
_REGION = re.compile(r"[a-z]{3,30}[0-9]?")
_DATASTORE = re.compile(r"[a-z0-9_]{1,255}")


@dataclass(frozen=True, slots=True)
class Scope:
    """One workspace: whose it is, and where."""

    subscription: str
    group: str
    workspace: str

    @property
    def path(self) -> str:
        """Its address in all of Azure."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """The workspace, its region, the datastore of runs, and what may be chosen beside."""

    subscription: str = ""
    workspace: str = ""
    region: str = ""
    datastore: str = ""
    image: str = ""
    compute: str = SERVERLESS

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Checks nothing yet: `kwanzaa providers` works without any of it."""
        return cls(
            environment.get(SUBSCRIPTION, ""),
            environment.get(WORKSPACE, ""),
            environment.get(REGION, ""),
            environment.get(DATASTORE, ""),
            environment.get(IMAGE, ""),
            environment.get(COMPUTE) or SERVERLESS,
        )

    def checked_scope(self) -> Scope:
        """The workspace. Raises `CredentialsError` where it is not said whose, or which."""
        if not _ID.fullmatch(self.subscription):
            raise _wrong(
                CredentialsError,
                self.subscription,
                "the id of a subscription",
                f"export {SUBSCRIPTION}=$(az account show --query id --output tsv)",
            )
        if not _WORKSPACE.fullmatch(self.workspace):
            raise _wrong(
                CredentialsError,
                self.workspace,
                "a resource group and a workspace",
                f"export {WORKSPACE}=my-group/my-workspace",
            )
        group, _, name = self.workspace.partition("/")
        return Scope(self.subscription, group, name)

    def checked_region(self) -> str:
        """The workspace's region. Raises `InvalidRequestError` where it cannot be one."""
        if not _REGION.fullmatch(self.region):
            raise _wrong(
                InvalidRequestError, self.region, "an Azure region", f"export {REGION}=eastus"
            )
        return self.region

    def checked_datastore(self) -> str:
        """The workspace's name for the container of runs. Raises `InvalidRequestError`."""
        if not _DATASTORE.fullmatch(self.datastore):
            raise _wrong(
                InvalidRequestError,
                self.datastore,
                "a datastore of the workspace",
                f"export {DATASTORE}=<name>; the README says how to make it",
            )
        return self.datastore

    @property
    def makes_clusters(self) -> bool:
        """Whether each job gets a cluster of its own. Raises `InvalidRequestError`."""
        if self.compute not in (SERVERLESS, CLUSTER):
            raise _wrong(
                InvalidRequestError,
                self.compute,
                "a kind of compute",
                f"export {COMPUTE}={SERVERLESS}, or {CLUSTER}",
            )
        return self.compute == CLUSTER


def _wrong(kind: type[ProviderError], value: str, what: str, mend: str) -> ProviderError:
    said = f"{value[:80]!r} is not {what}" if value else f"{what} is not set"
    return kind(f"Azure ML: {said}", mend=mend, nothing_was_created=True)
