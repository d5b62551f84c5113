"""Azure's management as the SDK speaks to it: a workspace with datastores, clusters and jobs."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute.testing.weather import RateLimitedError, SimError, TimedOutError
from kwanzaa_compute_azureml.replies import ENDED
from kwanzaa_compute_azureml.shapes import SHAPES
from kwanzaa_compute_azureml.simulated.account import (
    OWN_DATASTORE,
    SCOPE,
    SUBSCRIPTION,
    Account,
)
from kwanzaa_compute_azureml.simulated.entra import Entra
from kwanzaa_compute_azureml.simulated.jobs import Cluster, Jobs, SimulatedJob

MADE_BY = {"createdAt": "2026-01-01T00:00:00Z", "createdBy": "x", "createdByType": "Application"}
_JOB_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
_CLUSTER_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,14}[a-zA-Z0-9]")


class Refusal(Exception):  # noqa: N818 -- it is Azure's answer, not our error
    """An answer other than 2xx: its status, Azure's code for it, its words."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code = status, code


class Arm:
    """Answers one request at a time with the truth of `jobs`."""

    def __init__(
        self,
        account: Account,
        jobs: Jobs,
        entra: Entra,
        *,
        url: Callable[[], str],
        storage: str,
        containers: Mapping[str, str],
        opens: Callable[[str], str],
    ) -> None:
        """`url` is where it listens; `storage` the storage account, `containers` by datastore.

        `opens` makes a signature for a datastore's container.
        """
        self._account, self._jobs, self._entra = account, jobs, entra
        self._url, self._storage, self._containers = url, storage, containers
        self._signed = opens

    def handle(self, request: Request) -> Reply:
        """One call."""
        try:
            return self._answered(request)
        except Refusal as refusal:
            return refused(refusal.status, refusal.code, str(refusal))

    def admit(self, request: Request, kind: str = "") -> None:
        """Raises `Refusal` where the caller may not come in."""
        if self._account.skew:
            raise Refusal(401, "InvalidAuthenticationToken", self._account.skew)
        if not request.bearer:
            words = "Authentication failed. The 'Authorization' header is missing."
            raise Refusal(401, "AuthenticationFailed", words)
        if not self._entra.believes(request.bearer):
            raise Refusal(401, "ExpiredAuthenticationToken", "The access token expiry is past.")
        if kind in self._account.denied:
            words = "The client does not have authorization to perform action"
            raise Refusal(403, "AuthorizationFailed", f"{words} '{kind}' over scope '{SCOPE.path}'")

    def _answered(self, request: Request) -> Reply:
        kind, _, name = _rest(request.path).partition("/")
        self.admit(request, f"{request.method} {kind or 'workspaces'}")
        self._check_scope(request.path)
        body = request.json() if request.body else {}
        match request.method, kind:
            case "GET", "":
                return Reply(200, self._workspace())
            case "GET", "datastores":
                return Reply(200, self._datastore(name))
            case "POST", "datastores" if name.endswith("/listSecrets"):
                return Reply(200, {"secretsType": "Sas", "sasToken": self._opens(name)})
            case "PUT", "environments":
                return Reply(201, _resource(f"environments/{name}", body))
            case _, "computes":
                return self._compute(request.method, name, body)
            case _, "jobs":
                return self._job(request, name, body)
            case "GET", "operations":
                return self._operation(name)
        raise Refusal(404, "UserError", f"{request.method} {kind} is not simulated")

    # -- the workspace ------------------------------------------------------------------------

    def _check_scope(self, path: str) -> None:
        parts = path.split("/")
        if parts[2:3] != [SUBSCRIPTION]:
            words = f"The subscription '{parts[2]}' could not be found."
            raise Refusal(404, "SubscriptionNotFound", words)
        if not path.lower().startswith(SCOPE.path.lower()):
            words = (
                "was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
            )
            what = "/".join(parts[6:9])
            raise Refusal(404, "ResourceNotFound", f"The Resource '{what}' {words}")

    def _workspace(self) -> dict[str, Any]:
        inner = {
            "workspaceId": "simulated",
            "friendlyName": SCOPE.workspace,
            "discoveryUrl": f"{self._url()}/discovery",
            "mlFlowTrackingUri": "azureml://simulated",
            "storageAccount": f"{SCOPE.path}/storageAccounts/{self._storage}",
            "provisioningState": "Succeeded",
        }
        made = _resource("", {"properties": inner, "location": self._account.region})
        return {**made, "id": SCOPE.path, "name": SCOPE.workspace}

    def _datastore(self, name: str) -> dict[str, Any]:
        if not name:
            return {"value": [self._datastore(one) for one in self._containers]}
        if name not in self._containers:
            raise Refusal(404, "UserError", f"Could not find datastore with name: {name}")
        inner = {
            "datastoreType": "AzureBlob",
            "accountName": self._storage,
            "containerName": self._containers[name],
            "endpoint": "core.windows.net",
            "protocol": "https",
            "isDefault": name == OWN_DATASTORE,
            "credentials": {"credentialsType": "Sas"},
            "tags": {},
            "properties": {},
        }
        return _resource(f"datastores/{name}", {"properties": inner})

    def _opens(self, name: str) -> str:
        datastore = name.partition("/")[0]
        if datastore not in self._containers:
            raise Refusal(404, "UserError", f"Could not find datastore with name: {datastore}")
        return self._signed(datastore)

    # -- clusters -----------------------------------------------------------------------------

    def _compute(self, method: str, name: str, body: Mapping[str, Any]) -> Reply:
        clusters = self._jobs.clusters
        if method == "GET" and not name:
            return Reply(200, {"value": [_shown_cluster(one) for one in clusters.values()]})
        if method == "PUT":
            self._check_cluster(name, body)
            clusters.setdefault(name, Cluster(name, body))
            return Reply(200, _shown_cluster(clusters[name]))
        name, _, action = name.partition("/")
        if name not in clusters:
            words = f"Compute {name} not found in workspace {SCOPE.workspace}"
            raise Refusal(404, "ComputeNotFound", words)
        if method == "POST" and action == "listNodes":
            return Reply(200, {"nodes": self._jobs.nodes_of(clusters[name])})
        if method == "DELETE":
            self._jobs.delete_cluster(clusters[name])
            return Reply(
                202, b"", {"Location": self._later(f"computes-{name}"), "Retry-After": "1"}
            )
        return Reply(200, _shown_cluster(clusters[name]))

    def _check_cluster(self, name: str, body: Mapping[str, Any]) -> None:
        wanted = body["properties"]["properties"]
        if not _CLUSTER_NAME.fullmatch(name):
            raise Refusal(400, "BadRequest", f"Compute name {name} is invalid: 2 to 16 characters")
        self._check_size(str(wanted["vmSize"]))

    def _check_size(self, size: str) -> None:
        if size not in SHAPES or size in self._account.unknown_sizes:
            words = (
                f"The specified VM size {size} is not supported in region {self._account.region}"
            )
            raise Refusal(400, "InvalidVmSize", words)
        allowed = self._account.quotas.get(size)
        used = sum(
            job.size == size and job.status not in ENDED for job in self._jobs.by_name.values()
        )
        if allowed is not None and used >= allowed:
            words = (
                f"The specified subscription has a total vCPU quota of {allowed} and cannot"
                " accomodate for at least 1 requested managed compute node which maps to 4 vCPUs"
            )
            raise Refusal(400, "BadRequest", words)

    # -- jobs ---------------------------------------------------------------------------------

    def _job(self, request: Request, name: str, body: Mapping[str, Any]) -> Reply:
        if request.method == "GET" and not name:
            return Reply(200, self._list(request))
        if request.method == "PUT":
            return self._put(name, body["properties"])
        name, _, action = name.partition("/")
        job = self._jobs.by_name.get(name)
        if job is None:
            raise Refusal(404, "UserError", f"Could not find job with name: {name}")
        if request.method == "POST" and action == "cancel":
            if job.status in ENDED:
                words = f"Cannot cancel job {name}: it is in status {job.status}"
                raise Refusal(400, "UserError", words)
            self._jobs.cancel(job)
            return Reply(202, b"", {"Location": self._later(f"jobs-{name}"), "Retry-After": "1"})
        return Reply(200, _shown(job))

    def _put(self, name: str, properties: Mapping[str, Any]) -> Reply:
        """Creates, or updates what may be: a job of the name is never made twice."""
        if not _JOB_NAME.fullmatch(name):
            raise Refusal(400, "UserError", f"{name} is not a valid job name")
        if name in self._jobs.by_name:
            return Reply(200, _shown(self._jobs.by_name[name]))
        for given in (properties.get("inputs") or {}).values():
            store = re.search(r"datastores/([^/]+)/paths/", str(given["uri"]))
            if store is None or store[1] not in self._containers:
                raise Refusal(400, "UserError", f"Invalid input uri {given['uri']}")
        compute = str(properties.get("computeId") or "").rpartition("/")[2]
        if compute and compute not in self._jobs.clusters:
            raise Refusal(404, "UserError", f"Compute {compute} not found")
        if not compute:
            self._check_size(str((properties.get("resources") or {}).get("instanceType")))
        return Reply(201, _shown(self._jobs.create(name, properties)))

    def _list(self, request: Request) -> dict[str, Any]:
        tag = request.query.get("tag", [""])[0]
        rows = [
            _shown(job)
            for job in self._jobs.by_name.values()
            if not tag or tag in (job.properties.get("tags") or {})
        ][::-1]
        first, most = int(request.query.get("$skip", ["0"])[0]), self._account.page_size
        page: dict[str, Any] = {"value": rows[first : first + most]}
        if first + most < len(rows):
            asked = f"api-version={request.query['api-version'][0]}&tag={tag}&$skip={first + most}"
            page["nextLink"] = f"{self._url()}{SCOPE.path}/jobs?{asked}"
        return page

    # -- operations that take their time ------------------------------------------------------

    def _later(self, what: str) -> str:
        return f"{self._url()}{SCOPE.path}/operations/{what}?api-version=2023-04-01"

    def _operation(self, what: str) -> Reply:
        kind, _, name = what.partition("-")
        job = self._jobs.by_name.get(name)
        over = (
            name not in self._jobs.clusters
            if kind == "computes"
            else not job or job.status in ENDED
        )
        headers = {"Location": self._later(what), "Retry-After": "1"}
        return Reply(200, {}) if over else Reply(202, b"", headers)


def troubles(error: SimError) -> Reply:
    """How a cloud's troubles look here."""
    match error:
        case RateLimitedError(retry_after_s=after):
            words = "Number of requests exceeded the limit"
            reply = refused(429, "TooManyRequests", words)
            return Reply(429, reply.body, {"Retry-After": f"{after:g}"})
        case TimedOutError():
            return DROPPED
        case _:
            return refused(500, "InternalServerError", "")


def refused(status: int, code: str, words: str) -> Reply:
    """An error as Azure's management words it."""
    return Reply(status, {"error": {"code": code, "message": words}})


def _rest(path: str) -> str:
    """What follows the workspace in a path; "" for the workspace itself."""
    return "/".join(path.split("/")[9:])


def _resource(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{SCOPE.path}/{path}",
        "name": path.rpartition("/")[2],
        "type": f"Microsoft.MachineLearningServices/workspaces/{path.partition('/')[0]}",
        "systemData": MADE_BY,
        **body,
    }


def _shown_cluster(cluster: Cluster) -> dict[str, Any]:
    shown = _resource(f"computes/{cluster.name}", cluster.body)
    return {**shown, "properties": {**shown["properties"], "provisioningState": cluster.state}}


def _shown(job: SimulatedJob) -> dict[str, Any]:
    """Everything comes back as it was sent, and a status with it."""
    studio = f"https://ml.azure.com/runs/{job.name}?wsid={SCOPE.path}"
    services = {
        "Studio": {"jobServiceType": "Studio", "endpoint": studio},
        "Tracking": {"jobServiceType": "Tracking", "endpoint": "azureml://simulated"},
    }
    return _resource(
        f"jobs/{job.name}",
        {"properties": {**job.properties, "status": job.status, "services": services}},
    )
