"""`LoopbackCloud`: a `SimCloud` in real time whose machines really run their command."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.testing.loopback.liveclock import LiveClock
from kwanzaa_compute.testing.loopback.machines import MachineRoom, show_gpus
from kwanzaa_compute.testing.simcloud import SimCloud, SimMachine, State
from kwanzaa_compute.testing.weather import Faults, Place, Weather

QUICK = Weather(boot_s=(0.2, 0.2))
_UNPLUGGED = frozenset({"terminated", "expired", "stopped", "preempted", "preempted, disk stays"})


@dataclass(frozen=True, slots=True)
class Command:
    """What a simulated machine runs, as its provider would run it.

    `files` are laid into the machine's home first. `restarts`: the provider starts a command that
    has ended again, as container platforms do. `extra` is whatever the simulator wants to find
    again on the machine: labels, the request's body.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    restarts: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)


class LoopbackCloud:
    """A cloud on this machine. `sim` is the model and knows the truth; use it under `at_once`."""

    def __init__(
        self,
        places: Sequence[Place],
        folder: Path,
        *,
        seed: int | str = 0,
        weather: Weather = QUICK,
        faults: Faults | None = None,
        clock: LiveClock | None = None,
    ) -> None:
        """Machines have their homes below `folder`; nothing of them outlives this process."""
        self.clock = clock or LiveClock()
        self.room = MachineRoom(folder)
        self.sim = SimCloud(places, self.clock, seed=seed, weather=weather, faults=faults)
        self.sim.on_boot = self._boot
        self.sim.on_event = self._unplug
        self.gpu_of: Callable[[SimMachine], GPU] = lambda machine: machine.place.offer.gpu
        """The GPU that a machine really has: a test may make it another than was sold."""
        self._open = True

    @contextmanager
    def at_once(self) -> Iterator[SimCloud]:
        """The model, while nobody else touches it: for whoever reads or changes several things."""
        with self.clock.lock:
            yield self.sim

    # -- what a provider's API does: each call may raise a `SimError` -------------------------

    def create(self, name: str, key: tuple[str, str], command: Command) -> str:
        """Creates a machine of that name at a place and returns its id."""
        with self.at_once() as sim:
            return sim.create(name, key, command)

    def listing(self) -> list[SimMachine]:
        """The machines that the API shows now."""
        with self.at_once() as sim:
            return sim.listing()

    def look(self, machine_id: str) -> SimMachine | None:
        """One machine, or None where the API does not know it (yet, or any more)."""
        with self.at_once() as sim:
            return sim.look(machine_id)

    def terminate(self, machine_id: str) -> None:
        """Ends a machine, or lies; an unknown id is no error."""
        with self.at_once() as sim:
            sim.terminate(machine_id)

    def expire_at(self, machine_id: str, at: float) -> None:
        """The provider's own time limit: ends the machine at a time (seconds since the epoch)."""
        self.clock.call_at(at, lambda: self.sim.expire(self.sim.machines[machine_id]))

    def start(
        self,
        machine: SimMachine,
        command: Command,
        ended: Callable[[int], None],
        *,
        room: str,
        gpus: int,
    ) -> None:
        """Runs a command of a machine's in a room that shows so many of its GPUs.

        A machine has one room, by its id, unless its provider starts several as one. `ended` gets
        the exit code, as in `MachineRoom.start`.
        """
        home = self.room.home(room)
        show_gpus(home, self.gpu_of(machine), gpus)
        for name, content in command.files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.room.start(room, command.argv, command.env, ended)

    # -- what tests do and ask ----------------------------------------------------------------

    def preempt(self, machine_id: str) -> None:
        """Takes a machine back: its processes get SIGKILL."""
        with self.at_once() as sim:
            sim.preempt(sim.machines[machine_id])

    @property
    def billing(self) -> list[SimMachine]:
        """The machines that cost money now: what must be empty when a test ends."""
        with self.at_once() as sim:
            return sim.billing

    @property
    def billed_usd(self) -> Decimal:
        """What this cloud's bill says until now, in dollars."""
        with self.at_once() as sim:
            return sum((sim.billed_usd(m) for m in sim.machines.values()), Decimal(0))

    def close(self) -> None:
        """Ends time, and everything that still runs."""
        self._open = False
        self.clock.close()
        self.room.close()

    # -- inside -------------------------------------------------------------------------------

    def _boot(self, machine: SimMachine) -> None:
        command = machine.command
        if not isinstance(command, Command) or not self._open:
            return
        gpus = machine.place.offer.gpu_count
        ended = partial(self._exited, machine)
        self.start(machine, command, ended, room=machine.id, gpus=gpus)

    def _exited(self, machine: SimMachine, code: int) -> None:
        with self.at_once() as sim:
            if machine.state is not State.RUNNING or not self._open:
                return
            if isinstance(machine.command, Command) and machine.command.restarts:
                sim.note("command ended, starts again", machine.id, code)
                self.clock.call_at(self.clock.at + 1.0, lambda: self._boot_again(machine))
            else:
                sim.exit(machine, code)

    def _boot_again(self, machine: SimMachine) -> None:
        if machine.state is State.RUNNING:
            self._boot(machine)

    def _unplug(self, kind: str, machine: SimMachine) -> None:
        if kind in _UNPLUGGED:
            self.room.kill(machine.id)
