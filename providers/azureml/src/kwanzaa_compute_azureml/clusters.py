"""A cluster for each job, where the user wants that instead of serverless compute.

It has at most one machine, none when nothing runs, and is deleted when its job ends. Its name is
made from the job's, so that one whose job was never made is found again, and ended.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.errors import TransientError
from kwanzaa_compute_azureml.azure import Azure
from kwanzaa_compute_azureml.replies import OURS
from kwanzaa_compute_azureml.request import NAME_TAG, TAG, Request

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

IDLE_S = 120
"""Azure lets a machine go after so long without a job; it bills until then, or is deleted."""
LOW_PRIORITY, DEDICATED = "low_priority", "dedicated"
NOT_FOUND = 404
NO_PLACE = frozenset(
    {
        "InvalidSubscriptionId",
        "ResourceGroupNotFound",
        "SubscriptionNotFound",
        "WorkspaceNotFound",
    }
)
OVER = frozenset({"deleting", "deleted"})


def cluster_name(job_name: str) -> str:
    """16 letters and digits, which is what Azure allows, from a name that is too long."""
    return f"kwz{hashlib.sha256(job_name.encode()).hexdigest()[:13]}"


class Clusters:
    """The clusters of one workspace that are ours."""

    def __init__(self, azure: Azure) -> None:
        """Asks nobody yet."""
        self._azure = azure

    def make(self, request: Request, total_s: float) -> str:
        """Makes the cluster of a job, and waits until it is there; returns its name.

        Where it is not there in `total_s` seconds, or is refused, it is taken away again. Raises
        what the SDK raises, `TransientError` where it takes too long.
        """
        from azure.ai.ml.entities import AmlCompute

        name = cluster_name(request.name)
        wanted = AmlCompute(
            name=name,
            size=request.size,
            tier=LOW_PRIORITY if request.spot else DEDICATED,
            min_instances=0,
            max_instances=1,
            idle_time_before_scale_down=IDLE_S,
            ssh_public_access_enabled=False,
            tags={TAG: "yes", NAME_TAG: request.name},
        )

        def ask(client: "MLClient") -> bool:
            poller = client.compute.begin_create_or_update(wanted)
            poller.result(total_s / 2)
            return bool(poller.done())

        try:
            made = self._azure.call(ask, total_s)
        except Exception:
            self.delete(request.name)
            raise
        if not made:
            self.delete(request.name)
            raise TransientError(
                f"Azure ML: the cluster {name} was not there in time",
                nothing_was_created=True,
            )
        return name

    def state(self, job_name: str) -> str:
        """What Azure says of the cluster of a job, in lower case; "": there is none."""
        name = cluster_name(job_name)
        try:
            found: Any = self._azure.call(lambda client: client.compute.get(name))
        except Exception as error:
            if is_not_found(error, name):
                return ""
            raise
        return str(found.provisioning_state or "unknown").lower()

    def was_taken_back(self, job_name: str) -> bool:
        """Whether the cluster of a job has machines, and each of them was taken back."""
        name = cluster_name(job_name)
        try:
            nodes: list[Any] = self._azure.call(lambda c: list(c.compute.list_nodes(name)))
        except Exception as error:
            if is_not_found(error, name):
                return False
            raise
        return {_state_of(node) for node in nodes} == {"preempted"}

    def delete(self, job_name: str) -> None:
        """Asks for the end of the cluster of a job; one that is not there is no error."""
        name = cluster_name(job_name)
        try:
            self._azure.call(lambda client: client.compute.begin_delete(name))
        except Exception as error:
            if not is_not_found(error, name) and self.state(job_name) not in {"", *OVER}:
                raise

    def jobs(self) -> Iterator[str]:
        """The names of the jobs that have a cluster of ours."""
        listed: list[Any] = self._azure.call(lambda client: list(client.compute.list()))
        for compute in listed:
            name = (compute.tags or {}).get(NAME_TAG, "")
            if OURS.fullmatch(name) and compute.name == cluster_name(name):
                yield name


def _state_of(node: Any) -> str:
    """A machine's state in lower case. The SDK leaves its own field empty, and keeps the wire's."""
    state = getattr(node, "node_state", None) or getattr(node, "nodeState", None)
    return str(getattr(state, "value", state)).lower()


def is_not_found(error: Exception, name: str) -> bool:
    """Whether Azure itself says that there is no such thing as `name`.

    That there is no such workspace, or none that we see, says nothing of what is in it.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ResourceNotFoundError" not in names or getattr(error, "status_code", None) != NOT_FOUND:
        return False
    said = getattr(error, "error", None)
    code, words = str(getattr(said, "code", "")), str(getattr(said, "message", ""))
    if code == "ResourceNotFound":
        return name in words
    return code not in NO_PLACE
