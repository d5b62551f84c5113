"""The machines beneath the simulated Hub: a container that has ended costs nothing any more."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kwanzaa_compute.testing.loopback import LoopbackCloud
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import Faults, Place, Weather

_FIRST_JOB = 0x687FB701029421AE5549D000


class HubCloud(LoopbackCloud):
    """A `LoopbackCloud` that knows its machines by what the Hub calls them.

    That of a job is an id of 24 digits, that of a Space the name of its repository. `ends` says
    how each machine's life ended, in the words of `SimCloud`.
    """

    def __init__(
        self, places: Sequence[Place], folder: Path, weather: Weather, faults: Faults | None
    ) -> None:
        """Machines have their homes below `folder`."""
        super().__init__(places, folder, weather=weather, faults=faults)
        self.ends: dict[str, str] = {}
        self.spaces: dict[str, str] = {}
        """The newest machine of each Space, by the Space's name."""
        self.on_start: Callable[[SimMachine], None] = lambda _machine: None
        """Called once a machine's command runs."""
        self._happens = self.sim.on_event
        self.sim.on_event = self._happened

    def machine(self, hub_id: str) -> SimMachine | None:
        """The machine that the Hub calls so; None where it never had one."""
        own = self.spaces.get(hub_id) or own_id(hub_id)
        return self.sim.machines.get(own)

    def preempt(self, machine_id: str) -> None:
        """Takes the machine of a job or a Space back: its processes get SIGKILL."""
        machine = self.machine(machine_id)
        super().preempt(machine_id if machine is None else machine.id)

    def _happened(self, kind: str, machine: SimMachine) -> None:
        self._happens(kind, machine)
        if kind == "booted":
            self.on_start(machine)
        if kind == "exited":
            self.ends[machine.id] = kind
            self.sim.expire(machine)  # a container that has ended is taken down
        elif not machine.bills:
            self.ends.setdefault(machine.id, kind)


def job_id(machine_id: str) -> str:
    """The Hub's id of the job on a machine of the cloud."""
    return f"{_FIRST_JOB + int(machine_id.removeprefix('m-')):024x}"


def own_id(hub_job_id: str) -> str:
    """The cloud's id of the machine of a job; some text where there can be none."""
    try:
        return f"m-{int(hub_job_id, 16) - _FIRST_JOB}"
    except ValueError:
        return hub_job_id
