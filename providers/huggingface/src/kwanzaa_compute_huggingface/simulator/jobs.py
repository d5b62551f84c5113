"""Jobs of the simulated Hub: a command in an image, which really runs on a machine of the cloud."""

import re
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.testing.loopback.cloud import Command
from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute.testing.simcloud import SimMachine, State
from kwanzaa_compute_huggingface.simulator.answers import (
    HubError,
    Route,
    fields_of,
    timestamp,
)
from kwanzaa_compute_huggingface.simulator.cloud import HubCloud, job_id, own_id
from kwanzaa_compute_huggingface.simulator.flavours import JOBS

if TYPE_CHECKING:
    from kwanzaa_compute_huggingface.simulator.hub import HubSimulator

REQUIRED = {"command": list, "arguments": list, "environment": dict, "flavor": str}
OPTIONAL = {
    "secrets",
    "timeoutSeconds",
    "attempts",
    "labels",
    "volumes",
    "expose",
    "ssh",
    "network",
    "resourceGroupId",
    "dockerImage",
    "spaceId",
}
DEFAULT_TIMEOUT_S = 1800
TERMINAL = {"COMPLETED", "CANCELED", "ERROR"}
_LABEL = re.compile(r"[a-zA-Z0-9._-]{0,100}")
_PAGE = 100


class SimulatedJobs:
    """The routes below `/api/jobs`. What is known of a job hangs on its machine in the cloud."""

    def __init__(self, hub: "HubSimulator") -> None:
        """Of this Hub."""
        self._hub = hub
        self.routes: list[Route] = [
            ("GET", r"/api/jobs/hardware", self._hardware),
            ("POST", r"/api/jobs/([^/]+)", self._run),
            ("GET", r"/api/jobs/([^/]+)", self._list),
            ("GET", r"/api/jobs/([^/]+)/([^/]+)", self._inspect),
            ("POST", r"/api/jobs/([^/]+)/([^/]+)/cancel", self._cancel),
            ("PUT", r"/api/jobs/([^/]+)/([^/]+)/labels", self._label),
            ("GET", r"/api/jobs/([^/]+)/([^/]+)/logs", self._logs),
        ]
        self._labels: dict[str, dict[str, str]] = {}

    @property
    def _cloud(self) -> HubCloud:
        return self._hub.cloud

    def _hardware(self, _request: Request) -> Reply:
        return Reply(body=list(JOBS))

    def _run(self, request: Request, namespace: str) -> Reply:
        self._hub.must_be_allowed(request, namespace)
        spec: dict[str, Any] = fields_of(request, REQUIRED, OPTIONAL)
        _check(spec)
        self._hub.must_have_credit()
        argv = [*spec["command"], *spec["arguments"]]
        env = {**spec["environment"], **(spec.get("secrets") or {})}
        labels = spec.get("labels") or {}
        extra = {"namespace": namespace, "spec": spec}
        own = self._cloud.create(
            labels.get("name", ""),
            (spec["flavor"], ""),
            Command(argv, {**env, "ACCELERATOR": spec["flavor"]}, extra=extra),
        )
        return Reply(body=self._shown(self._cloud.sim.machines[own]))

    def limit(self, machine: SimMachine) -> None:
        """Ends a job's machine at its time limit, counted from its first instruction."""
        seconds = int(_spec(machine).get("timeoutSeconds") or DEFAULT_TIMEOUT_S)
        self._cloud.expire_at(machine.id, self._cloud.clock.at + seconds)

    def _list(self, request: Request, namespace: str) -> Reply:
        self._hub.must_be_allowed(request, namespace)
        visible = {machine.id for machine in self._cloud.listing()}
        machines = [
            machine
            for machine in list(self._cloud.sim.machines.values())
            if machine.id in visible or not machine.bills
            if is_job(machine, namespace)
        ]
        jobs = [self._shown(machine) for machine in reversed(machines)]
        stages = request.query.get("stage")
        labels = [label.partition("=")[::2] for label in request.query.get("label", [])]
        jobs = [job for job in jobs if not stages or job["status"]["stage"] in stages]
        jobs = [job for job in jobs if all(job["labels"].get(k) == v for k, v in labels)]
        return self._page(request, jobs)

    def _page(self, request: Request, jobs: list[dict[str, Any]]) -> Reply:
        """A hundred at a time, and where the next are found."""
        first = int(request.query.get("cursor", ["0"])[0])
        headers = {}
        if len(jobs) > first + _PAGE:
            others = [(k, v) for k, vs in request.query.items() if k != "cursor" for v in vs]
            query = "&".join(f"{k}={v}" for k, v in [*others, ("cursor", str(first + _PAGE))])
            headers["Link"] = f'<{self._hub.endpoint}{request.path}?{query}>; rel="next"'
        return Reply(body=jobs[first : first + _PAGE], headers=headers)

    def _inspect(self, request: Request, namespace: str, hub_id: str) -> Reply:
        return Reply(body=self._shown(self._found(request, namespace, hub_id)))

    def _cancel(self, request: Request, namespace: str, hub_id: str) -> Reply:
        machine = self._found(request, namespace, hub_id)
        if not machine.bills:
            raise HubError(400, "This job has ended already")
        self._cloud.terminate(machine.id)
        return Reply(body=self._shown(machine))

    def _label(self, request: Request, namespace: str, hub_id: str) -> Reply:
        machine = self._found(request, namespace, hub_id)
        labels: dict[str, Any] = fields_of(request, {"labels": dict}, set())
        self._labels[machine.id] = labels["labels"]
        return Reply(body=self._shown(machine))

    def _logs(self, request: Request, namespace: str, hub_id: str) -> Reply:
        machine = self._found(request, namespace, hub_id)
        first = f"===== Job started at {timestamp(machine.booted_at or machine.created_at)} ====="
        tail = request.query.get("tail")
        return Reply(body=self._hub.stream(machine, [first], tail=int(tail[0]) if tail else None))

    def _found(self, request: Request, namespace: str, hub_id: str) -> SimMachine:
        self._hub.must_be_allowed(request, namespace)
        own = own_id(hub_id)
        machine = self._cloud.look(own) or self._cloud.sim.machines.get(own)
        hidden = machine is not None and machine.bills and self._cloud.look(own) is None
        if machine is None or hidden or not is_job(machine, namespace):
            raise HubError(404, "Job not found")
        return machine

    def _shown(self, machine: SimMachine) -> dict[str, Any]:
        """A job as the API shows it: never the value of a secret."""
        spec, namespace = _spec(machine), _extra(machine)["namespace"]
        stage, message = self._stage(machine)
        started, ended = machine.booted_at, machine.ended_at
        now = self._cloud.clock.at
        times = {
            "schedulingSecs": None if started is None else int(started - machine.created_at),
            "runningSecs": None if started is None else int((ended or now) - started),
            "totalSecs": int((ended or now) - machine.created_at),
        }
        return {
            "id": job_id(machine.id),
            "createdAt": timestamp(machine.created_at),
            "startedAt": None if started is None else timestamp(started),
            "finishedAt": None if ended is None else timestamp(ended),
            **{name: spec[name] for name in ("dockerImage", "spaceId") if name in spec},
            "command": spec["command"],
            "arguments": spec["arguments"],
            "environment": spec["environment"],
            "secrets": dict.fromkeys(spec.get("secrets") or {}, ""),
            "flavor": spec["flavor"],
            "labels": self._labels.get(machine.id, spec.get("labels") or {}),
            "status": {"stage": stage, "message": message},
            "durations": times,
            "owner": {"id": "5e9ecfc04957053f60648a3e", "name": namespace, "type": "user"},
        }

    def _stage(self, machine: SimMachine) -> tuple[str, str | None]:
        match self._cloud.ends.get(machine.id):
            case None if machine.state is State.STARTING:
                return "SCHEDULING", None
            case None:
                return "RUNNING", None
            case "exited" if machine.exit_code == 0:
                return "COMPLETED", None
            case "exited":
                return "ERROR", f"Job failed with exit code: {_shell_code(machine)}"
            case "expired":
                return "ERROR", "Job timeout"
            case "terminated":
                return "CANCELED", None
            case how:
                return "ERROR", f"Job was interrupted: {how}"


def _check(spec: dict[str, Any]) -> None:
    words = [*spec["command"], *spec["arguments"], *spec["environment"].values()]
    if not spec["command"] or not all(isinstance(word, str) for word in words):
        raise HubError(400, "Invalid input: command, arguments, environment")
    if ("dockerImage" in spec) == ("spaceId" in spec):
        raise HubError(400, "Invalid input: exactly one of dockerImage, spaceId")
    flavours = {flavour["name"]: flavour for flavour in JOBS}
    if not flavours.get(spec["flavor"], {}).get("accelerator"):
        raise HubError(400, f"Invalid input: flavor {spec['flavor']}")
    timeout = spec.get("timeoutSeconds")
    if timeout is not None and (not isinstance(timeout, int) or timeout < 1):
        raise HubError(400, "Invalid input: timeoutSeconds")
    for text in [t for pair in (spec.get("labels") or {}).items() for t in pair]:
        if not _LABEL.fullmatch(text):
            raise HubError(400, "Invalid input: labels")


def _extra(machine: SimMachine) -> dict[str, Any]:
    return dict(machine.command.extra) if isinstance(machine.command, Command) else {}


def is_job(machine: SimMachine, namespace: str = "") -> bool:
    """Whether a machine is that of a job (of this namespace)."""
    extra = _extra(machine)
    return "spec" in extra and namespace in {"", extra["namespace"]}


def _spec(machine: SimMachine) -> dict[str, Any]:
    return dict(_extra(machine)["spec"])


def _shell_code(machine: SimMachine) -> int:
    code = machine.exit_code or 0
    return 128 - code if code < 0 else code
