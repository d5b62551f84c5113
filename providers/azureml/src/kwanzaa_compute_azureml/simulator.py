"""Azure ML on loopback: its management over machines that really run, beside Azurite's storage.

Storage is Azure's own emulator, in a process of its own. The directory that signs callers in, the
management of the workspace, its run history and the list of prices are ours, on one address.
"""

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, Self

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.store import Store, open_store, sas
from kwanzaa_compute.testing.loopback.cloud import QUICK
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute.testing.weather import Faults, Weather
from kwanzaa_compute_azureml.identity import AUTHORITY, CLIENT, SECRET, TENANT, TOKEN_FILE
from kwanzaa_compute_azureml.settings import (
    COMPUTE,
    DATASTORE,
    IMAGE,
    REGION,
    SUBSCRIPTION,
    WORKSPACE,
)
from kwanzaa_compute_azureml.simulated import account as customer
from kwanzaa_compute_azureml.simulated import retail
from kwanzaa_compute_azureml.simulated.account import DATASTORES, PRINTED, Account, places
from kwanzaa_compute_azureml.simulated.arm import Arm, Refusal, refused, troubles
from kwanzaa_compute_azureml.simulated.azurite import Azurite
from kwanzaa_compute_azureml.simulated.entra import Entra
from kwanzaa_compute_azureml.simulated.jobs import JobCloud, Jobs, SimulatedJob

LOG = "user_logs/std_log.txt"


class AzureMLSimulator:
    """An Azure without an account: `cloud` is the truth, `server` the API, `account` the user."""

    def __init__(
        self,
        folder: Path,
        *,
        weather: Weather = QUICK,
        faults: Faults | None = None,
        capacity: Mapping[str, int] | None = None,
        azurite: Azurite | None = None,
        grace_s: float = 5.0,
        requeues: bool = False,
    ) -> None:
        """`azurite` may be shared by several; `capacity` limits offers by their id.

        `requeues`: a spot job that loses its machine is queued again by Azure; else cancelled.
        """
        self.account = Account()
        self._folder, self._weather, self._faults = folder, weather, faults
        self._capacity, self._azurite = capacity, azurite
        self._grace_s, self._requeues = grace_s, requeues

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        clock = Clock()
        if self._azurite is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._azurite = self._stack.enter_context(Azurite(self._folder, clock.now()))
        self.azurite = self._azurite
        mine = secrets.token_hex(6)
        self.containers = {name: f"{base}-{mine}" for name, base in DATASTORES.items()}
        for container in self.containers.values():
            self.azurite.create_container(container, clock.now())
        self.cloud = JobCloud(
            places(self._capacity), self._folder, weather=self._weather, faults=self._faults
        )
        self.jobs = Jobs(
            self.cloud,
            inputs=self._input,
            # On Azure a machine's own roots know Azure.
            variables={"SSL_CERT_FILE": str(self.azurite.authority.bundle)},
            grace_s=self._grace_s,
            requeues=self._requeues,
        )
        self._entra = Entra(self.account, lambda: self.endpoint, lambda: self.cloud.clock.at)
        self._arm = Arm(
            self.account,
            self.jobs,
            self._entra,
            url=lambda: self.endpoint,
            storage=self.azurite.account,
            containers=self.containers,
            opens=self._signature,
        )
        self.prices = retail.RetailPages(lambda: self.endpoint)
        tls = SSLContext(PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*self.azurite.authority.server(f"arm-{mine}"))
        self.server = WireServer(self._handle, on_error=troubles, tls=tls)
        return self

    def __exit__(self, *_: object) -> None:
        self.cloud.close()
        self.server.close()
        self._stack.close()

    @property
    def endpoint(self) -> str:
        """Where the management, the directory, the run history and the prices listen."""
        return self.server.url

    @property
    def store_url(self) -> str:
        """A container of Azurite's, which the workspace knows as a datastore."""
        return f"az://{self.containers[customer.DATASTORE]}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Credentials, a workspace, a storage account, and nothing of the user's own."""
        return {
            **self.azurite.environment,
            TENANT: customer.TENANT,
            CLIENT: customer.CLIENT,
            SECRET: customer.SECRET,
            TOKEN_FILE: "",
            AUTHORITY: self.endpoint,
            SUBSCRIPTION: customer.SUBSCRIPTION,
            WORKSPACE: f"{customer.SCOPE.group}/{customer.SCOPE.workspace}",
            REGION: retail.REGION,
            DATASTORE: customer.DATASTORE,
            IMAGE: "",
            COMPUTE: "",
        }

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """The same promises, in seconds."""
        return replace(info, simulated=True, settle_s=1.0, boot_s=120.0, stop_reserve_s=5.0)

    def store(self, datastore: str = customer.DATASTORE) -> Store:
        """A container, as the workspace reaches it: by the right of its datastore."""
        return open_store(f"az://{self.containers[datastore]}", self.azurite.environment)

    # -- inside -------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Reply:
        if self._entra.handles(request):
            return self._entra.handle(request)
        if self.prices.handles(request):
            return self.prices.handle(request)
        if request.path == "/discovery":
            names = ("api", "history", "experimentation", "catalog", "modelmanagement", "studio")
            return Reply(200, dict.fromkeys(names, self.endpoint))
        with self.cloud.at_once():
            if request.path.startswith("/history/"):
                return self._history(request)
            return self._arm.handle(request)

    def _input(self, uri: str) -> bytes:
        """What a job's input holds, read with what the workspace knows of its datastore."""
        datastore, _, path = uri.partition("/datastores/")[2].partition("/paths/")
        return self.store(datastore).get(path)

    def _signature(self, datastore: str) -> str:
        """A right to a datastore's container for an hour."""
        url, now = f"az://{self.containers[datastore]}", self.cloud.clock.at
        return sas.for_container(url, self.azurite.environment, 1.0, now).reveal()

    def _history(self, request: Request) -> Reply:
        try:
            self._arm.admit(request)
        except Refusal as refusal:
            return refused(refusal.status, refusal.code, str(refusal))
        *_, name, what = request.path.split("/")
        if what == "rundata":
            name = request.json()["runId"]
        job = self.jobs.by_name.get(name)
        if job is None:
            return refused(404, "UserError", f"Run {name} was not found")
        if what == "rundata":
            known = {"runId": job.name, "status": job.status, "outputs": {}, "properties": {}}
            return Reply(200, {"runMetadata": known})
        return Reply(200, self._details(job))

    def _details(self, job: SimulatedJob) -> dict[str, Any]:
        details: dict[str, Any] = {"runId": job.name, "status": job.status, "logFiles": {}}
        if lines := self.jobs.log_of(job):
            store, path = self.store(PRINTED), f"ExperimentRun/dcid.{job.name}/{LOG}"
            store.put(path, "".join(f"{line}\n" for line in lines).encode())
            details["logFiles"] = {LOG: store.signed_url(path, 1.0).reveal()}
        for key, at in (("startTimeUtc", job.started_at), ("endTimeUtc", job.ended_at)):
            if at is not None:
                details[key] = _time(at)
        if job.error is not None:
            code, words = job.error
            details["error"] = {"error": {"code": code, "message": words}}
        return details


def _time(at: float) -> str:
    """As Azure writes it: seven digits of a second."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"
