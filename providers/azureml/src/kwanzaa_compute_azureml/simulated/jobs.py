"""Jobs and clusters over a `LoopbackCloud`: what becomes of each, and what its machine finds."""

import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kwanzaa_compute.testing.loopback import Command, LoopbackCloud
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import SoldOutError
from kwanzaa_compute_azureml.prices import Meter
from kwanzaa_compute_azureml.replies import ENDED
from kwanzaa_compute_azureml.request import SPOT_TIER
from kwanzaa_compute_azureml.simulated.account import place_id
from kwanzaa_compute_azureml.simulated.retail import REGION

Inputs = Callable[[str], bytes]
ALLOCATION_S = 0.3
DELETION_S = 0.2
PLACEHOLDER = "${{inputs."

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?")
_UNITS = (86_400, 3600, 60, 1)


@dataclass(slots=True)
class SimulatedJob:
    """One job, as it truly is. Times in seconds since the epoch."""

    name: str
    properties: Mapping[str, Any]
    """As they were sent."""
    created_at: float
    size: str
    meter: Meter
    cluster: str = ""
    machine_id: str = ""
    status: str = "Queued"
    error: tuple[str, str] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    printed: list[str] = field(default_factory=list)
    """What earlier machines printed."""

    @property
    def is_spot(self) -> bool:
        """Whether its machine may be taken back."""
        return self.meter is not Meter.REGULAR

    @property
    def timeout_s(self) -> int | None:
        """Its time limit, of the form PT5400S; None: there is none."""
        return seconds_of((self.properties.get("limits") or {}).get("timeout"))


@dataclass(slots=True)
class Cluster:
    """One cluster."""

    name: str
    body: Mapping[str, Any]
    state: str = "Succeeded"

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What was asked for: size, priority, scale."""
        inner: Mapping[str, Any] = self.body["properties"]["properties"]
        return inner


class JobCloud(LoopbackCloud):
    """The machines of jobs; one is known by its job's name as well as by its own id."""

    jobs: "Jobs"

    def preempt(self, machine_id: str) -> None:
        """Takes a job's machine back."""
        job = self.jobs.by_name.get(machine_id)
        super().preempt(job.machine_id if job else machine_id)


class Jobs:
    """All jobs that ever were, by name, and the clusters that are there."""

    def __init__(
        self,
        cloud: JobCloud,
        *,
        inputs: Inputs,
        variables: Mapping[str, str],
        grace_s: float,
        requeues: bool,
    ) -> None:
        """`inputs` reads what a URI names; `variables` are what Azure gives every machine.

        `requeues`: a job that loses its machine is queued again; else it is cancelled.
        """
        self._cloud, self._inputs, self._variables = cloud, inputs, dict(variables)
        self._grace_s, self.requeues = grace_s, requeues
        self.notices_s = 0.0
        """How long Azure ML takes to see that a job's machine is gone."""
        self.by_name: dict[str, SimulatedJob] = {}
        self.clusters: dict[str, Cluster] = {}
        self._boot, self._unplug = cloud.sim.on_boot, cloud.sim.on_event
        cloud.sim.on_boot, cloud.sim.on_event = self._booted, self._happened
        cloud.jobs = self

    # -- what the API does, with the cloud's lock held ----------------------------------------

    def create(self, name: str, properties: Mapping[str, Any]) -> SimulatedJob:
        """Makes a job and asks for its machine."""
        cluster = self.clusters.get(str(properties.get("computeId") or "").rpartition("/")[2])
        resources = properties.get("resources") or {}
        meter = Meter.REGULAR
        if cluster and cluster.wanted["vmPriority"] == "LowPriority":
            meter = Meter.LOW_PRIORITY
        elif (properties.get("queueSettings") or {}).get("jobTier") == SPOT_TIER:
            meter = Meter.SPOT
        job = SimulatedJob(
            name,
            properties,
            self.now,
            size=str(cluster.wanted["vmSize"] if cluster else resources.get("instanceType")),
            meter=meter,
            cluster=cluster.name if cluster else "",
        )
        self.by_name[name] = job
        self._ask_for_a_machine(job)
        return job

    def cancel(self, job: SimulatedJob) -> None:
        """SIGTERM, and SIGKILL after the grace; at once where nothing runs."""
        if job.status in ENDED:
            return
        running = job.status == "Running"
        job.status = "CancelRequested"
        if not running:
            self._let_go(job)
            self._end(job, "Canceled")
            return
        self._cloud.room.signal(job.machine_id, signal.SIGTERM)
        self._later(self._grace_s, lambda: self._cut(job, "Canceled"))

    def delete_cluster(self, cluster: Cluster) -> None:
        """Its jobs end and its machines go, a moment later."""
        if cluster.state == "Deleting":
            return
        cluster.state = "Deleting"
        self._later(DELETION_S, lambda: self._deleted(cluster))

    def log_of(self, job: SimulatedJob) -> list[str]:
        """What the job has printed on all its machines."""
        return job.printed + (self._cloud.room.output(job.machine_id) if job.machine_id else [])

    # -- what happens to machines -------------------------------------------------------------

    def _ask_for_a_machine(self, job: SimulatedJob) -> None:
        place = place_id(job.size, job.meter), REGION
        try:
            job.machine_id = self._cloud.create(job.name, place, Command(()))
        except SoldOutError:
            self._later(ALLOCATION_S, lambda: self._give_up(job))

    def _give_up(self, job: SimulatedJob) -> None:
        if job.status == "Queued":
            words = f"AllocationFailed: there is not enough capacity for {job.size} in {REGION}"
            self._end(job, "Failed", ("ServiceError", words))

    def _booted(self, machine: SimMachine) -> None:
        job = self.by_name[machine.name]
        if job.machine_id != machine.id or job.status != "Queued":
            return
        try:
            machine.command = self._command(job, machine)
        except Exception as error:  # noqa: BLE001 -- whatever kept it from its input is the job's end
            self._end(
                job, "Failed", ("UserError", f"Failed to read an input: {type(error).__name__}")
            )
            self._cloud.sim.expire(machine)
            return
        job.status, now = "Running", self.now
        job.started_at = job.started_at or now
        if job.timeout_s is not None:
            self._later(job.started_at + job.timeout_s - now, lambda: self._time_is_up(job))
        self._boot(machine)

    def _command(self, job: SimulatedJob, machine: SimMachine) -> Command:
        """What the machine runs: its inputs are files, whose paths stand in its command."""
        home = self._cloud.room.home(machine.id)
        line, files = str(job.properties["command"]), {}
        for name, given in (job.properties.get("inputs") or {}).items():
            path = f"inputs/{name}/{str(given['uri']).rpartition('/')[2]}"
            files[path] = self._inputs(str(given["uri"]))
            line = line.replace(f"{PLACEHOLDER}{name}}}}}", f"'{home}/{path}'")
        env = {
            **(job.properties.get("environmentVariables") or {}),
            **self._variables,
            "AZUREML_RUN_ID": job.name,
        }
        return Command(("bash", "-c", line), env, files)

    def _time_is_up(self, job: SimulatedJob) -> None:
        if job.status == "Running":
            job.status = "CancelRequested"
            self._cut(job, "Canceled")

    def _cut(self, job: SimulatedJob, status: str) -> None:
        if job.status not in ENDED:
            self._end(job, status)
            self._let_go(job)

    def _happened(self, kind: str, machine: SimMachine) -> None:
        self._unplug(kind, machine)
        job = self.by_name.get(machine.name)
        if job is None or job.machine_id != machine.id or job.status in ENDED:
            return
        match kind:
            case "exited":
                self._command_ended(job, machine.exit_code or 0)
                self._let_go(job)
            case "preempted" | "preempted, disk stays":
                self._later(self.notices_s, lambda: self._taken_back(job))

    def _command_ended(self, job: SimulatedJob, code: int) -> None:
        if job.status == "CancelRequested":
            self._end(job, "Canceled")
        elif code == 0:
            self._end(job, "Completed")
        else:
            code = code if code > 0 else 128 - code
            words = f"Execution failed. User process '/bin/bash' exited with status code {code}."
            self._end(job, "Failed", ("UserError", words))

    def nodes_of(self, cluster: Cluster) -> list[dict[str, str]]:
        """The machines of a cluster, as Azure lists them."""
        rows = []
        for job in self.by_name.values():
            machine = self._cloud.sim.machines.get(job.machine_id)
            if job.cluster == cluster.name and machine is not None:
                state = "running" if machine.bills else "preempted"
                rows.append({"nodeId": machine.id, "nodeState": state, "runId": job.name})
        return rows

    def _taken_back(self, job: SimulatedJob) -> None:
        if job.status in ENDED:
            return
        if job.status == "CancelRequested" or (job.is_spot and not self.requeues):
            self._end(job, "Canceled")
        elif job.is_spot:
            job.printed = self.log_of(job)
            job.status = "Queued"
            self._ask_for_a_machine(job)
        else:
            self._end(job, "Failed", ("ServiceError", "The node is lost"))

    def _let_go(self, job: SimulatedJob) -> None:
        """A machine of nobody's is let go; a cluster's stays for its idle time, and bills."""
        machine = self._cloud.sim.machines.get(job.machine_id)
        if machine is None:
            return
        cluster = self.clusters.get(job.cluster)
        if cluster is None:
            self._cloud.sim.expire(machine)
            return
        self._cloud.room.kill(machine.id)
        idle = seconds_of(cluster.wanted["scaleSettings"]["nodeIdleTimeBeforeScaleDown"])
        self._later(float(idle or 0), lambda: self._cloud.sim.expire(machine))

    def _deleted(self, cluster: Cluster) -> None:
        del self.clusters[cluster.name]
        for job in self.by_name.values():
            if job.cluster == cluster.name:
                self._cut(job, "Canceled")
                if machine := self._cloud.sim.machines.get(job.machine_id):
                    self._cloud.sim.expire(machine)

    def _end(self, job: SimulatedJob, status: str, error: tuple[str, str] | None = None) -> None:
        job.status, job.error, job.ended_at = status, error, self.now

    @property
    def now(self) -> float:
        """The present, in seconds since the epoch."""
        return self._cloud.clock.at

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._cloud.clock.call_at(self.now + seconds, what)


def seconds_of(duration: Any) -> int | None:
    """An ISO 8601 duration of days, hours, minutes and seconds; None where it is none."""
    match = _DURATION.fullmatch(str(duration))
    if match is None:
        return None
    return sum(int(n or 0) * unit for n, unit in zip(match.groups(), _UNITS, strict=True))
