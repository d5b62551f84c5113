"""Training jobs over a `LoopbackCloud`: what becomes of each, and what its container finds."""

import secrets
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kwanzaa_compute.testing.loopback import Command
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import SoldOutError
from kwanzaa_compute_sagemaker.simulated.account import NUMBER, REGION, place_of
from kwanzaa_compute_sagemaker.simulated.hosts import (
    TrainingCloud,
    config_of,
    count_of,
    free_port,
    rooms_of,
)

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
    def count(self) -> int:
        """How many instances it has."""
        return count_of(self.request)

    @property
    def rooms(self) -> list[str]:
        """Its instances of now in the machine room; none while it waits for its first."""
        return rooms_of(self.machine_id, self.count) if self.machine_id else []

    @property
    def is_spot(self) -> bool:
        """Whether its machine may be taken back."""
        return bool(self.request.get("EnableManagedSpotTraining"))


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
        self.working: dict[str, set[str]] = {}
        """The instances of each machine whose command has not ended."""
        self._cloud, self._channels, self._url = cloud, channels, credentials_url
        self._grace_s, self._restart_s = grace_s, restart_s
        self._unplug = cloud.sim.on_event
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
        self._cloud.signal(job.machine_id, signal.SIGTERM)
        self._later(self._grace_s, lambda: self._cloud.sim.terminate(job.machine_id))

    def trained_s(self, job: TrainingJob) -> int:
        """Whole seconds of training so far, over all its machines."""
        until = self.now if job.ended_at is None else job.ended_at
        since = job.trained_since
        return round(job.run_s + (0.0 if since is None else until - since))

    # -- what happens to machines -------------------------------------------------------------

    def _ask_for_a_machine(self, job: TrainingJob) -> None:
        instance, places = job.request["ResourceConfig"]["InstanceType"], self._cloud.sim.places
        place = place_of(instance, job.count, places, spot=job.is_spot)
        algorithm = job.request["AlgorithmSpecification"]
        argv = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
        try:
            job.machine_id = self._cloud.create(job.name, place.key, Command(argv))
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
        files = {f"opt/ml/input/data/{k}": v for k, v in self._channels(job.request).items()}
        if not files:
            self._end(job, "Failed", reason="ClientError: No S3 objects found in the channel")
            self._cloud.sim.expire(machine)
            return
        now = self.now
        job.started_at, job.trained_since = job.started_at or now, now
        self._turn(job, "Training")
        left = job.request["StoppingCondition"]["MaxRuntimeInSeconds"] - job.run_s
        self._later(left, lambda: self._time_is_up(job, machine))
        self._cloud.begin(machine, self._containers(machine, job, files))

    def _containers(
        self, machine: SimMachine, job: TrainingJob, files: Mapping[str, bytes]
    ) -> list[Command]:
        """What each instance's container runs."""
        command = machine.command
        if not isinstance(command, Command):
            raise TypeError("a machine without a command")
        rooms = rooms_of(machine.id, job.count)
        # On AWS each job has a network of its own, and a port in it is always free.
        shared = {"KWANZAA_MEETING_PORT": str(free_port())} if job.count > 1 else {}
        return [
            self._container(
                replace(command, env=shared, files={**files, **_config(job, number)}),
                job,
                self._cloud.room.home(room),
            )
            for number, room in enumerate(rooms, 1)
        ]

    def _container(self, command: Command, job: TrainingJob, home: Path) -> Command:
        """What a container sees, with /opt/ml in the instance's own folder."""
        token = home / "opt/ml/.token"
        env = {
            **command.env,
            **job.request.get("Environment", {}),
            "AWS_REGION": REGION,
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.arn,
            # On AWS it is a path at 169.254.170.2, which no loopback can play.
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._url}/role/{job.name}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        argv = [f"{home}{word}" if word.startswith(f"{ML}/") else word for word in command.argv]
        given = {**command.files, "opt/ml/.token": job.key.encode()}
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


def _config(job: TrainingJob, number: int) -> Mapping[str, bytes]:
    given = config_of(job.request, number)
    return {f"opt/ml/input/config/{name}": content for name, content in given.items()}
