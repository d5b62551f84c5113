"""Azure's own SDK, imported at first use, each call under a deadline and never repeated.

The SDK would report what it does, write the repository of the current folder into each job, leave
a variable in this process's environment, and try a create again. It is told not to.
"""

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.deadline import within
from kwanzaa_compute_azureml.identity import credential_of
from kwanzaa_compute_azureml.request import (
    COMMAND,
    EXPERIMENT,
    INPUT,
    NAME_TAG,
    SPOT_TIER,
    STANDARD_TIER,
    TAG,
    Request,
    uri_of,
)
from kwanzaa_compute_azureml.settings import Scope

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Command
    from azure.core.credentials import TokenCredential

T = TypeVar("T")

CONNECT_S, READ_S = 10.0, 30.0
CALL_S = 50.0
"""In all, whatever the socket does; below the minute that the core grants."""
PUBLIC = "https://management.azure.com"
CA_FILE = "SSL_CERT_FILE"
"""Whom to believe instead of the roots that Python brings: a company's own, or a simulation's."""
NOT_OURS_TO_TELL = {"azureml.git.dirty": "unknown"}
"""With one property of git's there, the SDK does not look for the others in the current folder."""
_GLOBAL = threading.Lock()


class Azure:
    """One workspace, as one caller. Thread-safe; the client is made once."""

    def __init__(
        self, environment: Mapping[str, str], scope: Scope, endpoint: str | None = None
    ) -> None:
        """Reads nothing yet, and asks nobody."""
        self.environment, self.scope = environment, scope
        self.endpoint = (endpoint or PUBLIC).rstrip("/")
        self._lock = threading.Lock()

    def call(self, what: "Callable[[MLClient], T]", total_s: float = CALL_S) -> T:
        """One use of the client. Raises what the SDK raises, `TimeoutError` after `total_s`."""
        with self._lock:
            client = self._client
        return within(total_s, lambda: what(client), who="Azure")

    def token(self) -> str:
        """A bearer token for Azure's management, or what the SDK raises."""
        with self._lock:
            credential = self._credential
        scope = f"{self.endpoint}/.default"
        return within(CALL_S, lambda: credential.get_token(scope).token, who="Azure")

    @property
    def ca_file(self) -> str:
        """A file with the authorities to believe; "": the usual ones."""
        return self.environment.get(CA_FILE, "")

    @cached_property
    def _credential(self) -> "TokenCredential":
        return credential_of(self.environment, self._transport)

    @cached_property
    def _client(self) -> "MLClient":
        with _quietly():
            from azure.ai.ml import MLClient

            return MLClient(
                self._credential,
                self.scope.subscription,
                self.scope.group,
                self.scope.workspace,
                enable_telemetry=False,
                show_progress=False,
                **self._cloud,
                **self._transport,
            )

    @property
    def _transport(self) -> dict[str, Any]:
        """How calls travel: no second try, and no proxy between us and loopback."""
        words: dict[str, Any] = {
            "retry_total": 0,
            "connection_timeout": CONNECT_S,
            "read_timeout": READ_S,
        }
        if self.ca_file:
            words["connection_verify"] = self.ca_file
        if urlsplit(self.endpoint).hostname == "127.0.0.1":
            words |= {"use_env_settings": False, "proxies": {}}
        return words

    @property
    def _cloud(self) -> dict[str, Any]:
        """The public cloud by its name, whatever the environment of this process says."""
        if self.endpoint == PUBLIC:
            return {"cloud": "AzureCloud"}
        metadata = dict.fromkeys(
            (
                "azure_portal",
                "resource_manager",
                "active_directory",
                "aml_resource_id",
                "registry_discovery_endpoint",
            ),
            self.endpoint,
        )
        name = f"at {self.endpoint}"
        return {"cloud": name, "cloud_metadata": {**metadata, "storage_endpoint": "invalid"}}


def command_of(request: Request, cluster: str = "") -> "Command":
    """A request in the SDK's words; on a cluster, or on whatever Azure ML finds for the size."""
    with _quietly():
        from azure.ai.ml import Input, command
        from azure.ai.ml.entities import Environment

        made = command(
            name=request.name,
            display_name=request.name,
            experiment_name=EXPERIMENT,
            command=COMMAND,
            environment=Environment(image=request.image),
            inputs={INPUT: Input(type="uri_file", path=uri_of(request), mode="download")},
            tags={TAG: "yes", NAME_TAG: request.name},
            timeout=request.timeout_s,
        )
        made.properties = dict(NOT_OURS_TO_TELL)
        if cluster:
            made.compute = cluster
            return made
        made.set_resources(instance_type=request.size, instance_count=1)
        made.set_queue_settings(job_tier=SPOT_TIER if request.spot else STANDARD_TIER)
        return made


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The SDK warns of its own past, and takes its cloud from the process and leaves it there."""
    variable = "AZUREML_CURRENT_CLOUD"
    with _GLOBAL, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = os.environ.pop(variable, None)
        try:
            yield
        finally:
            _hush()
            os.environ.pop(variable, None)
            if before is not None:
                os.environ[variable] = before


def _hush() -> None:
    """The SDK's modules write to stderr by handlers of their own, what is not for users."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("azure."):
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]
