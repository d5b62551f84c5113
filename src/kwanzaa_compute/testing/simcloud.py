"""`SimCloud`: one deterministic model of a cloud, with everything that clouds do to their users.

It knows nothing of drivers: `FakeCloud` makes it an ordinary driver, and a simulator of a
provider's wire protocol can stand on it as well. Nothing here waits, logs or starts a thread.
Same seed and same calls: the same history, byte for byte.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Protocol

from kwanzaa_compute.testing.chance import Chance
from kwanzaa_compute.testing.weather import (
    Faults,
    Place,
    RateLimitedError,
    ServerError,
    SoldOutError,
    TimedOutError,
    UnknownOfferError,
    Weather,
)


class CloudTime(Protocol):
    """The time that a cloud lives in: virtual (`FakeClock`) or real (`LiveClock`)."""

    @property
    def start(self) -> float:
        """When it began, in seconds since the epoch."""

    @property
    def at(self) -> float:
        """The present, in seconds since the epoch."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""

    def call_at(self, at: float, what: Callable[[], None]) -> None:
        """Does something at a time."""

    def sleep(self, seconds: float) -> None:
        """Lets so many seconds pass."""


class State(StrEnum):
    """What a simulated machine truly does."""

    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    """Its command has ended; it bills on."""
    STOPPED = "stopped"
    """Taken back, but its disk remains and bills."""
    ENDING = "ending"
    ENDED = "ended"


@dataclass(slots=True)
class SimMachine:
    """One simulated machine, as it truly is; `ended_at` is when its billing ended."""

    id: str
    name: str
    place: Place
    usd_per_hour: Decimal
    created_at: float
    visible_at: float
    command: object
    """Whatever the caller wants run; `SimCloud.on_boot` gets it."""
    state: State = State.STARTING
    exit_code: int | None = None
    booted_at: float | None = None
    stopped_at: float | None = None
    ended_at: float | None = None
    listed: bool = False
    blind_until: float = 0.0
    works_while_ending: bool = False

    @property
    def bills(self) -> bool:
        """Whether it costs money now."""
        return self.state is not State.ENDED

    @property
    def works(self) -> bool:
        """Whether its command can run now."""
        ending = self.state is State.ENDING and self.works_while_ending and self.exit_code is None
        return ending or self.state in (State.STARTING, State.RUNNING)


class SimCloud:
    """The model. `machines` are all that ever were, `log` is all that ever happened."""

    def __init__(
        self,
        places: Sequence[Place],
        clock: CloudTime,
        *,
        seed: int | str = 0,
        weather: Weather | None = None,
        faults: Faults | None = None,
        chance: Chance | None = None,
    ) -> None:
        """`chance` (default: from the seed) may be shared by several clouds of one test."""
        self.places = {place.key: place for place in places}
        self.clock = clock
        self.weather = weather or Weather()
        self.faults = faults or Faults()
        self.chance = chance or Chance(seed)
        self.machines: dict[str, SimMachine] = {}
        self._list_outage = (0.0, False)
        self._no_terminate_until = 0.0
        self.log: list[str] = []
        self.on_boot: Callable[[SimMachine], None] = lambda _machine: None
        """Called at the first instruction of a machine's command."""
        self.on_create: Callable[[SimMachine], None] = lambda _machine: None
        """Called as soon as a machine exists and bills."""
        self.on_event: Callable[[str, SimMachine], None] = lambda _kind, _machine: None
        """Called after everything that happens to a machine, for whoever checks."""
        self.may_blink: Callable[[SimMachine], bool] = lambda machine: machine.listed
        """Whether a machine may become invisible again: only one that somebody has seen."""

    # -- what a provider's API does -----------------------------------------------------------

    def price(self, place: Place) -> Decimal:
        """Dollars an hour now: the offer's price, moved a little every hour."""
        quoted = place.offer.usd_per_hour or Decimal(0)
        hour = int(self.clock.elapsed_s // 3600)
        if not self.weather.price_moves or not hour:
            return quoted
        draw = Chance(f"{self.chance.seed}/{place.key}/{hour}")
        moved = 1 + draw.between("price", -self.weather.price_moves, self.weather.price_moves)
        return (quoted * Decimal(moved)).quantize(Decimal("0.0001"), ROUND_CEILING)

    def has_capacity(self, place: Place) -> bool:
        """Whether a machine could be created here now."""
        if place.trace is not None and not place.trace.at(self.clock.elapsed_s):
            return False
        if place.capacity is None:
            return True
        here = sum(m.place.key == place.key and m.bills for m in self.machines.values())
        return here < place.capacity

    def create(self, name: str, key: tuple[str, str], command: object) -> str:
        """Creates a machine of that name and returns its id, or raises a `SimError`."""
        faults, strikes = self.faults, self.chance.strikes
        self.note("create asked", name)
        self._wait("create")
        if key not in self.places:
            raise UnknownOfferError(f"there is no offer {key}")
        place = self.places[key]
        if strikes("rate limit", faults.rate_limited):
            raise RateLimitedError(faults.retry_after_s)
        if strikes("create error before", faults.create_errors_before):
            raise ServerError("internal error")
        if strikes("create time-out before", faults.create_times_out_before):
            self._time_out()
        if not self.has_capacity(place) or strikes("sold out", faults.sold_out):
            raise SoldOutError(f"no capacity for {place.offer.id} in {place.offer.region}")
        if strikes("create lands late", faults.create_lands_late):
            delay = self.chance.between("late", 0.0, self.weather.list_lag_s / 2)
            at = self.clock.at + faults.timeout_s + delay
            self.clock.call_at(at, lambda: self._late(name, place, command, delay))
            self._time_out()
        machine = self._make(name, place, command, self.weather.list_lag_s)
        if strikes("create twice", faults.create_twice):
            self._make(name, place, command, self.weather.list_lag_s)
        if strikes("create error after", faults.create_errors_after):
            raise ServerError("internal error")
        if strikes("create time-out after", faults.create_times_out_after):
            self._time_out()
        self._wait("create answer")
        return machine.id

    def listing(self) -> list[SimMachine]:
        """The machines that the API shows now."""
        self._wait("list")
        if self.chance.strikes("list error", self.faults.list_errors):
            self._list_out_of_order(times_out=False)
        if self.chance.strikes("list time-out", self.faults.list_times_out):
            self._list_out_of_order(times_out=True)
        until, times_out = self._list_outage
        if self.clock.at < until and not self.chance.calm:
            if times_out:
                self._time_out()
            raise ServerError("internal error")
        return [m for m in self.machines.values() if self._shown(m)]

    def look(self, machine_id: str) -> SimMachine | None:
        """One machine, or None where the API does not know it (yet, or any more)."""
        self._wait("inspect")
        if self.chance.strikes("inspect error", self.faults.inspect_errors):
            raise ServerError("internal error")
        machine = self.machines.get(machine_id)
        return machine if machine is not None and self._shown(machine) else None

    def terminate(self, machine_id: str) -> None:
        """Ends a machine, or raises a `SimError`, or lies; an unknown id is no error."""
        self._wait("terminate")
        faults, strikes = self.faults, self.chance.strikes
        if strikes("terminate error before", faults.terminate_errors_before):
            lasts_s = self.chance.between("terminate outage", 0.0, faults.terminate_outage_s)
            self._no_terminate_until = self.clock.at + lasts_s
            raise ServerError("internal error")
        if self.clock.at < self._no_terminate_until and not self.chance.calm:
            raise ServerError("internal error")
        machine = self.machines.get(machine_id)
        if machine is None or not machine.bills:
            return
        if strikes("terminate lies", faults.terminate_lies):
            self.note("terminate lied", machine.id)
            return
        if machine.state is not State.ENDING:
            self._begin_to_end(machine)
        if strikes("terminate error after", faults.terminate_errors_after):
            raise ServerError("internal error")

    def _begin_to_end(self, machine: SimMachine) -> None:
        runs = machine.state is State.RUNNING
        on = runs and self.chance.strikes("works while ending", self.weather.works_while_ending)
        machine.state, machine.works_while_ending = State.ENDING, on
        self._happened("terminate asked", machine)
        delay = self.chance.between("ending", *self.weather.ending_s)
        if delay:
            self.clock.call_at(self.clock.at + delay, lambda: self._end(machine, "terminated"))
        else:
            self._end(machine, "terminated")

    # -- what happens to machines by themselves -----------------------------------------------

    def exit(self, machine: SimMachine, code: int) -> None:
        """Its command ends; the machine stays and bills."""
        if machine.works:
            machine.exit_code = code
            if machine.state is not State.ENDING:
                machine.state = State.EXITED
            self._happened("exited", machine)

    def expire(self, machine: SimMachine) -> None:
        """Its dead-man's switch ends it, and its billing; one that is stopped has none."""
        if machine.state in (State.STARTING, State.RUNNING, State.EXITED):
            self._end(machine, "expired")

    def stop(self, machine: SimMachine) -> None:
        """Its owner stops it: its work ends and bills no more, its disk stays."""
        if machine.state in (State.STARTING, State.RUNNING, State.EXITED):
            machine.state, machine.stopped_at = State.STOPPED, self.clock.at
            self._happened("stopped", machine)

    def preempt(self, machine: SimMachine) -> None:
        """The cloud takes a machine back, without a word."""
        if machine.state not in (State.STARTING, State.RUNNING, State.EXITED):
            return
        if self.chance.strikes("stays stopped", self.weather.preempted_stays):
            machine.state, machine.stopped_at = State.STOPPED, self.clock.at
            self._happened("preempted, disk stays", machine)
        else:
            self._end(machine, "preempted")

    # -- the meter ----------------------------------------------------------------------------

    def billed_usd(self, machine: SimMachine, *, disk: bool = True) -> Decimal:
        """What a machine has cost until now, in whole billing steps; `disk` adds a stopped disk."""
        offer = machine.place.offer
        end = self.clock.at if machine.ended_at is None else machine.ended_at
        worked = (end if machine.stopped_at is None else machine.stopped_at) - machine.created_at
        seconds = Decimal(max(round(worked, 6), offer.minimum_s))
        steps = (seconds / offer.billing_step_s).to_integral_value(ROUND_CEILING)
        usd = steps * offer.billing_step_s * machine.usd_per_hour / 3600
        if disk and machine.stopped_at is not None:
            gib_hours = Decimal(offer.disk_gib or 0) * Decimal(end - machine.stopped_at) / 3600
            usd += gib_hours * offer.disk_usd_per_gib_hour
        return usd

    @property
    def billing(self) -> list[SimMachine]:
        """The machines that cost money now: what must be empty when a test ends."""
        return [m for m in self.machines.values() if m.bills]

    def note(self, kind: str, *words: object) -> None:
        """Adds a line to the log."""
        self.log.append(f"{self.clock.elapsed_s:.3f} {kind} {' '.join(map(str, words))}")

    # -- inside -------------------------------------------------------------------------------

    def _make(self, name: str, place: Place, command: object, lag_s: float) -> SimMachine:
        now = self.clock.at
        machine = SimMachine(
            id=f"m-{len(self.machines) + 1}",
            name=name,
            place=place,
            usd_per_hour=self.price(place),
            created_at=now,
            visible_at=now + self.chance.between("lag", 0.0, lag_s),
            command=command,
        )
        self.machines[machine.id] = machine
        self._happened("created", machine)
        self.on_create(machine)
        boots_at = now + self.chance.between("boot", *self.weather.boot_s)
        self.clock.call_at(boots_at, lambda: self._boot(machine))
        if place.offer.spot:
            self._plan_preemption(machine, boots_at)
        return machine

    def _late(self, name: str, place: Place, command: object, delay: float) -> None:
        self._make(name, place, command, self.weather.list_lag_s - delay)

    def _plan_preemption(self, machine: SimMachine, boots_at: float) -> None:
        trace = machine.place.trace
        outage = None if trace is None else trace.next_outage(self.clock.elapsed_s)
        if outage is not None:
            self.clock.call_at(self.clock.start + outage, lambda: self.preempt(machine))
        every = self.weather.preempted_every_s
        if every and not self.chance.calm:
            lives = self.chance.stream("life").expovariate(1 / every)
            if self.chance.strikes("preemption", 1.0):
                self.clock.call_at(boots_at + lives, lambda: self._preempt_unless_calm(machine))

    def _preempt_unless_calm(self, machine: SimMachine) -> None:
        if not self.chance.calm:
            self.preempt(machine)

    def _boot(self, machine: SimMachine) -> None:
        if machine.state is State.STARTING:
            machine.state, machine.booted_at = State.RUNNING, self.clock.at
            self._happened("booted", machine)
            self.on_boot(machine)

    def _end(self, machine: SimMachine, why: str) -> None:
        if machine.bills:
            machine.state, machine.ended_at = State.ENDED, self.clock.at
            self._happened(why, machine)

    def _shown(self, machine: SimMachine) -> bool:
        now, lag = self.clock.at, self.weather.list_lag_s
        if machine.ended_at is not None:
            # An ended machine lingers in the list, but not in that of a cloud without any lag.
            return machine.listed and now < machine.ended_at + lag
        if now < machine.visible_at or now < machine.blind_until:
            return False
        blinks = self.faults.list_blinks
        if blinks and self.may_blink(machine) and self.chance.strikes("blink", blinks):
            machine.blind_until = now + self.chance.between("blink", 0.0, lag)
            machine.listed = False
            return False
        machine.listed = True
        return True

    def _list_out_of_order(self, *, times_out: bool) -> None:
        lasts_s = self.chance.between("outage", 0.0, self.faults.list_outage_s)
        self._list_outage = (self.clock.at + max(lasts_s, 0.001), times_out)

    def _wait(self, what: str) -> None:
        low, high = self.weather.latency_s
        if high:
            self.clock.sleep(self.chance.between(what, low, high))

    def _time_out(self) -> None:
        self.clock.sleep(self.faults.timeout_s)
        raise TimedOutError("no answer")

    def _happened(self, kind: str, machine: SimMachine) -> None:
        self.note(kind, machine.id, machine.name)
        self.on_event(kind, machine)
