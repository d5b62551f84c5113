"""The instances of a training job: process trees of one machine of the model, which bills for all.

On AWS they are called algo-1, algo-2 and so on, in a network of the job's own. Here several have
addresses of this machine's loopback for names, and a port to meet on that nobody else uses.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.testing.loopback import Command, LoopbackCloud
from kwanzaa_compute.testing.simcloud import SimMachine

if TYPE_CHECKING:
    from kwanzaa_compute_sagemaker.simulated.jobs import Jobs


class TrainingCloud(LoopbackCloud):
    """The machines of training jobs; one is known by its job's name as well as by its own id."""

    jobs: "Jobs"

    def preempt(self, machine_id: str) -> None:
        """Takes a job's machine back: all of its instances."""
        job = self.jobs.by_name.get(machine_id)
        super().preempt(job.machine_id if job else machine_id)

    def begin(self, machine: SimMachine, commands: Sequence[Command]) -> None:
        """Starts each instance's command, with the lock held.

        The first that fails ends them all, as it ends the job; else the last one does.
        """
        rooms = rooms_of(machine.id, len(commands))
        self._working[machine.id] = set(rooms)
        gpus = machine.place.offer.gpu_count // len(commands)
        for room, command in zip(rooms, commands, strict=True):
            self.start(machine, command, partial(self._ended, machine, room), room=room, gpus=gpus)

    def signal(self, machine_id: str, number: int) -> None:
        """Sends a signal to the command on each instance."""
        for room in self._working.get(machine_id, ()):
            self.room.signal(room, number)

    @property
    def _working(self) -> dict[str, set[str]]:
        return self.jobs.working

    def _ended(self, machine: SimMachine, room: str, code: int) -> None:
        with self.at_once():
            left = self._working[machine.id]
            left.discard(room)
            fails = code != 0 and self.jobs.by_name[machine.name].status == "InProgress"
            if fails or not left:
                self._exited(machine, code)

    def _unplug(self, kind: str, machine: SimMachine) -> None:
        super()._unplug(kind, machine)
        if not machine.works:
            for room in self._working.get(machine.id, ()):
                self.room.kill(room)


def rooms_of(machine_id: str, count: int) -> list[str]:
    """What the machine room calls the instances: the first by the machine's own id."""
    return [machine_id, *(f"{machine_id}-algo-{n}" for n in range(2, count + 1))]


def count_of(request: Mapping[str, Any]) -> int:
    """How many instances a job was asked for with."""
    return int(request["ResourceConfig"]["InstanceCount"])


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def config_of(request: Mapping[str, Any], number: int) -> Mapping[str, bytes]:
    """The files that AWS lays into /opt/ml/input/config of a job's instance, from 1."""
    channel = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    instance, count = request["ResourceConfig"]["InstanceType"], count_of(request)
    hosts = ["algo-1"] if count == 1 else [f"127.0.0.{n}" for n in range(1, count + 1)]
    group = {
        "instance_group_name": "homogeneousCluster",
        "instance_type": instance,
        "hosts": hosts,
    }
    resources = {
        "current_host": hosts[number - 1],
        "current_instance_type": instance,
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [group],
        "network_interface_name": "eth0" if count == 1 else "lo",
    }
    names = [one["ChannelName"] for one in request.get("InputDataConfig", [])]
    files: Mapping[str, object] = {
        "hyperparameters.json": request.get("HyperParameters", {}),
        "inputdataconfig.json": dict.fromkeys(names, channel),
        "resourceconfig.json": resources,
    }
    return {name: json.dumps(content).encode() for name, content in files.items()}
