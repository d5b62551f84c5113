"""Training jobs over a `LoopbackCloud`: what becomes of each, and what its container finds."""

import json
import secrets
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kwanzaa_compute.testing.loopback import Command, LoopbackCloud
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import SoldOutError
from kwanzaa_compute_sagemaker.prices import SPOT
from kwanzaa_compute_sagemaker.simulated.account import NUMBER, REGION

Channels = Callable[[Mapping[str, Any]], Mapping[str, bytes]]
ENDED = frozenset({"Completed", "Failed", "Stopped"})
PENDING_S = 0.3
SECONDARY = {"Completed": "Completed", "Failed": "Failed", "Stopped": "Stopped"}
ML = "/opt/ml"


@dataclass(slots=True)
class TrainingJob:
    """One job, as it truly is. Times in seconds since the epoch."""

    request: Mapping[str, Any]
    created_at: float
    machine_id: str = ""
    status: str = "InProgress"
    secondary: str = "Starting"
    reason: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    run_s: float = 0.0
    """How long earlier machines trained, before each was taken back."""
    trained_since: float | None = None
    transitions: list[tuple[str, float]] = field(default_factory=list)
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    """What its container shows to get the role's credentials."""

    @property
    def name(self) -> str:
        """Unique in the account for ever."""
        return str(self.request["TrainingJobName"])

    @property
    def arn(self) -> str:
        """Its address in all of AWS."""
        return f"arn:aws:sagemaker:{REGION}:{NUMBER}:training-job/{self.name}"

    @property
    def is_spot(self) -> bool:
        """Whether its machine may be taken back."""
        return bool(self.request.get("EnableManagedSpotTraining"))


class TrainingCloud(LoopbackCloud):
    """The machines of training jobs; one is known by its job's name as well as by its own id."""

    jobs: "Jobs"

    def preempt(self, machine_id: str) -> None:
        """Takes a job's machine back."""
        job = self.jobs.by_name.get(machine_id)
        super().preempt(job.machine_id if job else machine_id)


class Jobs:
    """All jobs that ever were, by name."""

    def __init__(
        self,
        cloud: TrainingCloud,
        *,
        channels: Channels,
        credentials_url: str,
        grace_s: float,
        restart_s: float,
    ) -> None:
        """`channels` brings a job's input from S3, by file name below /opt/ml/input/data.

        A job that is stopped gets SIGKILL `grace_s` after SIGTERM (AWS: 120); a spot job that was
        interrupted starts again after `restart_s`.
        """
        self.by_name: dict[str, TrainingJob] = {}
        self._cloud, self._channels, self._url = cloud, channels, credentials_url
        self._grace_s, self._restart_s = grace_s, restart_s
        self._boot, self._unplug = cloud.sim.on_boot, cloud.sim.on_event
        cloud.sim.on_boot, cloud.sim.on_event = self._booted, self._happened
        cloud.jobs = self

    # -- what the API does, with the cloud's lock held ----------------------------------------

    def create(self, request: Mapping[str, Any]) -> TrainingJob:
        """Makes a job and asks for its machine."""
        job = TrainingJob(request, self.now)
        self.by_name[job.name] = job
        self._turn(job, "Starting")
        self._ask_for_a_machine(job)
        return job

    def stop(self, job: TrainingJob) -> None:
        """SIGTERM, and SIGKILL after the grace; at once where nothing runs."""
        if job.status != "InProgress":
            return
        job.status = "Stopping"
        idle = job.secondary in {"Pending", "Interrupted"} or job.trained_since is None
        self._turn(job, "Stopping")
        if idle:
            self._end(job, "Stopped")
            self._cloud.sim.terminate(job.machine_id)
            return
        self._cloud.room.signal(job.machine_id, signal.SIGTERM)
        self._later(self._grace_s, lambda: self._cloud.sim.terminate(job.machine_id))

    def trained_s(self, job: TrainingJob) -> int:
        """Whole seconds of training so far, over all its machines."""
        until = self.now if job.ended_at is None else job.ended_at
        since = job.trained_since
        return round(job.run_s + (0.0 if since is None else until - since))

    # -- what happens to machines -------------------------------------------------------------

    def _ask_for_a_machine(self, job: TrainingJob) -> None:
        instance = job.request["ResourceConfig"]["InstanceType"]
        place = (f"{instance}{SPOT}" if job.is_spot else instance, REGION)
        algorithm = job.request["AlgorithmSpecification"]
        argv = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
        try:
            job.machine_id = self._cloud.create(job.name, place, Command(argv))
        except SoldOutError:
            self._turn(job, "Pending")
            self._later(PENDING_S, lambda: self._give_up(job))

    def _give_up(self, job: TrainingJob) -> None:
        if job.status == "InProgress":
            words = "Unable to provision requested ML compute capacity. Please retry using a"
            self._end(job, "Failed", reason=f"CapacityError: {words} different ML instance type.")

    def _booted(self, machine: SimMachine) -> None:
        job = self.by_name[machine.name]
        if job.machine_id != machine.id or job.status != "InProgress":
            return
        self._turn(job, "Downloading")
        home = self._cloud.room.home(machine.id)
        files = {f"opt/ml/input/data/{k}": v for k, v in self._channels(job.request).items()}
        if not files:
            self._end(job, "Failed", reason="ClientError: No S3 objects found in the channel")
            self._cloud.sim.expire(machine)
            return
        machine.command = self._container(machine, job, home, files)
        now = self.now
        job.started_at, job.trained_since = job.started_at or now, now
        self._turn(job, "Training")
        left = job.request["StoppingCondition"]["MaxRuntimeInSeconds"] - job.run_s
        self._later(left, lambda: self._time_is_up(job, machine))
        self._boot(machine)

    def _container(
        self, machine: SimMachine, job: TrainingJob, home: Path, files: Mapping[str, bytes]
    ) -> Command:
        """What the container runs and sees, with /opt/ml in the machine's own folder."""
        command = machine.command
        if not isinstance(command, Command):
            raise TypeError("a machine without a command")
        token = home / "opt/ml/.token"
        config = {f"opt/ml/input/config/{k}": json.dumps(v).encode() for k, v in _config(job)}
        env = {
            **job.request.get("Environment", {}),
            "AWS_REGION": REGION,
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.arn,
            # On AWS it is a path at 169.254.170.2, which no loopback can play.
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._url}/role/{job.name}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        argv = [f"{home}{word}" if word.startswith(f"{ML}/") else word for word in command.argv]
        given = {**config, **files, "opt/ml/.token": job.key.encode()}
        return replace(command, argv=argv, env=env, files=given)

    def _time_is_up(self, job: TrainingJob, machine: SimMachine) -> None:
        if job.status == "InProgress" and job.machine_id == machine.id:
            self._end(job, "Stopped", "MaxRuntimeExceeded")
            self._cloud.sim.expire(machine)

    def _happened(self, kind: str, machine: SimMachine) -> None:
        self._unplug(kind, machine)
        job = self.by_name.get(machine.name)
        if job is None or job.machine_id != machine.id or job.status in ENDED:
            return
        match kind:
            case "exited":
                self._command_ended(job, machine.exit_code or 0)
                self._cloud.sim.expire(machine)  # an ended job bills no more
            case "terminated":
                self._end(job, "Stopped")
            case "preempted" | "preempted, disk stays":
                self._taken_back(job)

    def _command_ended(self, job: TrainingJob, code: int) -> None:
        if job.status == "Stopping":
            self._end(job, "Stopped")
        elif code == 0:
            self._turn(job, "Uploading")
            self._end(job, "Completed")
        else:
            code = code if code > 0 else 128 - code
            self._end(job, "Failed", reason=f"AlgorithmError: , exit code: {code}")

    def _taken_back(self, job: TrainingJob) -> None:
        if job.status == "Stopping":
            self._end(job, "Stopped")
        elif not job.is_spot:
            self._end(job, "Failed", reason="InternalServerError: We encountered an internal error")
        else:
            if job.trained_since is not None:
                job.run_s += self.now - job.trained_since
            job.trained_since = None
            self._turn(job, "Interrupted")
            self._later(self._restart_s, lambda: self._start_again(job))

    def _start_again(self, job: TrainingJob) -> None:
        if (job.status, job.secondary) != ("InProgress", "Interrupted"):
            return
        most = job.request["StoppingCondition"]["MaxWaitTimeInSeconds"]
        if self.now - job.created_at > most:
            self._end(job, "Stopped", "MaxWaitTimeExceeded")
            return
        self._turn(job, "Starting")
        self._ask_for_a_machine(job)

    def _end(self, job: TrainingJob, status: str, secondary: str = "", *, reason: str = "") -> None:
        job.status, job.reason, job.ended_at = status, reason, self.now
        self._turn(job, secondary or SECONDARY[status])

    def _turn(self, job: TrainingJob, secondary: str) -> None:
        job.secondary = secondary
        job.transitions.append((secondary, self.now))

    @property
    def now(self) -> float:
        """The present, in seconds since the epoch."""
        return self._cloud.clock.at

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._cloud.clock.call_at(self.now + seconds, what)


def _config(job: TrainingJob) -> list[tuple[str, object]]:
    """The files that AWS lays into /opt/ml/input/config."""
    channel = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    instance = job.request["ResourceConfig"]["InstanceType"]
    group = {
        "instance_group_name": "homogeneousCluster",
        "instance_type": instance,
        "hosts": ["algo-1"],
    }
    resources = {
        "current_host": "algo-1",
        "current_instance_type": instance,
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [group],
        "network_interface_name": "eth0",
    }
    names = [one["ChannelName"] for one in job.request.get("InputDataConfig", [])]
    return [
        ("hyperparameters.json", job.request.get("HyperParameters", {})),
        ("inputdataconfig.json", dict.fromkeys(names, channel)),
        ("resourceconfig.json", resources),
    ]
