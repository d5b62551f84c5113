"""Whole hostile worlds: the real supervisor and ledger against a cloud that does its worst.

    outcome = survive(draw(seed))
    assert not outcome.violations

Watchers are killed at any boundary of any call, in the middle of one another's calls, and start
again from what the ledger kept. What may never happen is checked after every event.
"""

import os
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from kwanzaa_compute.drivers.contract import Deadline, ProviderInfo
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import LeaseLostError, StoreError
from kwanzaa_compute.runs import schema
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supervisor import Look, Supervisor
from kwanzaa_compute.store import Store
from kwanzaa_compute.testing.chance import Chance, Strike
from kwanzaa_compute.testing.fakeclock import FakeClock
from kwanzaa_compute.testing.fakecloud import FEATURES, FakeCloud
from kwanzaa_compute.testing.invariants import Judge
from kwanzaa_compute.testing.samples import sample_run
from kwanzaa_compute.testing.schedules import Schedule
from kwanzaa_compute.testing.simcloud import SimMachine

CALM_S = 8 * 3600.0
"""How long a run may take to come to its end once nothing goes wrong any more."""
_AFTERMATH_S = 1800.0
_ledgers = count()


class Crash(BaseException):
    """The process was killed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a world."""

    schedule: Schedule
    violations: tuple[str, ...]
    log: str
    strikes: tuple[Strike, ...]
    states: tuple[RunState, ...]


def survive(
    schedule: Schedule, *, only: Collection[Strike] | None = None, folder: Path | None = None
) -> Outcome:
    """Plays a schedule to its end. `only` replays some strikes; `folder`: the ledger's, on disk."""
    name = f"world{os.getpid()}-{next(_ledgers)}"  # a folder may be shared by several processes
    chance = Chance(schedule.seed, only)
    if folder:
        world = World(schedule, str(folder / f"{name}.db"), chance)
    else:
        where = f"file:/{name}?vfs=memdb"
        with closing(_new_ledger(where)):  # it is there while somebody has it open
            world = World(schedule, where, chance)
    with closing(world.ledger):
        world.play()
        states = tuple(run.state for run in world.ledger.runs())
        log = world.history()
    return Outcome(schedule, tuple(world.judge.violations), log, tuple(world.chance.struck), states)


def _new_ledger(where: str) -> sqlite3.Connection:
    """A ledger in memory that has seen all migrations; ten thousand worlds need not repeat them."""
    new = schema.connect(where)
    with closing(sqlite3.connect(":memory:")) as migrated:
        migrated.deserialize(_migrated())
        migrated.backup(new)
    return new


@cache
def _migrated() -> bytes:
    with closing(schema.connect("file::memory:")) as db:
        schema.migrate(db)
        return db.serialize()


class World:
    """One cloud, its runs, and the watchers that come and go."""

    def __init__(self, schedule: Schedule, where: str, chance: Chance) -> None:
        """`where` is the ledger's path or URI; it lives as long as `ledger` is open."""
        self.schedule = schedule
        self.where = where
        self.chance = chance
        self.clock = FakeClock()
        training = schedule.training
        self.cloud = FakeCloud(
            clock=self.clock,
            offers=schedule.offers,
            weather=schedule.weather,
            faults=schedule.faults,
            training=replace(
                training, stops_by_itself=schedule.deadline is not Deadline.BY_WATCHER
            ),
            chance=chance,
            info=ProviderInfo(
                name="fake",
                title="A hostile cloud",
                driver="",
                settle_s=schedule.settle_s,
                boot_s=schedule.boot_limit_s,
                stop_reserve_s=schedule.stop_reserve_s,
                deadline=schedule.deadline,
                features=FEATURES,
                simulated=True,
            ),
        )
        self.ledger = Ledger(where, self.clock.clock())
        self.judge = Judge(self.ledger, self.cloud, schedule)
        self.cloud.sim.on_event = self.judge.saw
        # What was seen by a watcher that died before it could write it down was not seen.
        self.noted: dict[str, float] = {}
        self.cloud.sim.may_blink = self._may_blink
        self.ledger.set_project_cap(schedule.project_usd)
        within_s = schedule.finished_within_s
        run = replace(sample_run(), candidates=dump_prospects(schedule.prospects))
        for number in range(schedule.runs):
            self.ledger.add_run(
                replace(
                    run,
                    id=f"r{number}",
                    deadline_at=None if within_s is None else self.clock.at + within_s,
                    store_url=f"memory://r{number}",
                    created_at=self.clock.at,
                    max_usd=schedule.max_usd,
                    max_hours=schedule.max_hours,
                )
            )
        self.watchers = [Watcher(self, number) for number in range(schedule.watchers)]

    def play(self) -> None:
        """Lets time pass until every run is final, and a while longer."""
        schedule, clock = self.schedule, self.clock
        for watcher in self.watchers:
            clock.call_at(clock.at + 7.0 * watcher.number, watcher.tick)
        if schedule.wish and self.chance.strikes("wish", 1.0):
            after_s, wish = schedule.wish
            clock.call_at(clock.at + after_s, partial(self.ledger.set_wish, "r0", wish))
        clock.call_at(clock.at + schedule.hostile_s, self._calm_down)
        last = clock.at + max(schedule.hostile_s, sum(schedule.blackout_s or (0.0,))) + CALM_S
        while self.open and clock.at < last and not self.judge.violations:
            clock.sleep(60.0)
        self.judge.all_final(self.open)
        clock.sleep(_AFTERMATH_S)
        self.judge.at_the_end()
        for watcher in self.watchers:
            watcher.close()

    @property
    def open(self) -> int:
        """How many runs are not final."""
        return self.schedule.runs - len(self.judge.final)

    @property
    def blackout_left_s(self) -> float:
        """For how long from now on nobody watches; zero outside of a blackout."""
        if self.schedule.blackout_s is None:
            return 0.0
        since = self.clock.elapsed_s - self.schedule.blackout_s[0]
        return max(0.0, self.schedule.blackout_s[1] - since) if since >= 0 else 0.0

    def _may_blink(self, machine: SimMachine) -> bool:
        return machine.listed and self.noted.get(machine.id, 0.0) > machine.blind_until

    def _calm_down(self) -> None:
        self.chance.calm = True
        self.cloud.sim.note("calm")

    def history(self) -> str:
        """Everything that happened, as text: equal for equal seeds, byte for byte."""
        lines = list(self.cloud.sim.log)
        for run in self.ledger.runs():
            lines += [
                f"{run.id} {event.at - self.clock.start:.3f} {event.kind}: {event.message}"
                for event in self.ledger.events(run.id)
            ]
            lines.append(f"{run.id} {run.state}: {run.reason}")
        return "\n".join(lines)


class Watcher:
    """One `kwanzaa watch`, killed and started again."""

    def __init__(self, world: World, number: int) -> None:
        """Watcher 1, 3... have wall clocks that are ahead, 2, 4... behind."""
        self.world = world
        self.number = number
        skew_s = (0.0, 1.0, -1.0)[number % 3] * world.schedule.skew_s
        self.clock = world.clock.clock(skew_s=skew_s)
        self.mortal = world.schedule.crashes > 0 or world.schedule.blackout_s is not None
        self.life = 0
        self.dead = False
        self._ledger: Ledger | None = None
        self._start()

    def _start(self) -> None:
        world = self.world
        self.life += 1
        self.dead = False
        self.holder = f"w{self.number}.{self.life}"
        self._ledger = Ledger(world.where, self.clock)
        driver: Any = Mortal(world.cloud, self, world.judge.calls(self))
        provider = Provider(
            world.cloud.info, driver, self.clock, RetryPolicy(attempts=3, deadline_s=None)
        )
        ledger: Any = Mortal(
            self._ledger, self, world.judge.writes(), after=world.judge.wrote(self)
        )
        self.supervisor = _Noting(
            partial(self._note, world),
            ledger,
            lambda _name: provider,
            self._open_store,
            self.clock,
            holder=self.holder,
            environment={},
        )

    def _note(self, world: World, machine_id: str) -> None:
        world.noted[machine_id] = world.clock.at

    def _open_store(self, url: str) -> Store:
        folder = self.world.cloud.stores.open(url)
        troubled = self.world.schedule.store_slow or self.world.schedule.store_errors
        store: Any = Mortal(folder, self, {}, fails=self._store_fails if troubled else None)
        return store  # type: ignore[no-any-return]

    def _store_fails(self) -> None:
        chance, schedule = self.world.chance, self.world.schedule
        if chance.strikes("store slow", schedule.store_slow):
            self.world.clock.sleep(chance.between("store slow", 5.0, 120.0))
        if chance.strikes("store error", schedule.store_errors):
            raise StoreError("the store did not answer")

    def boundary(self) -> None:
        """A place where a process may be killed."""
        if self.dead or self.world.blackout_left_s:
            self.dead = True
            raise Crash
        if self.world.chance.strikes("crash", self.world.schedule.crashes):
            self.dead = True
            raise Crash

    def tick(self) -> None:
        """One sweep, unless it is killed in the middle of it."""
        world, clock = self.world, self.world.clock
        if not world.open:
            return
        began = self.clock.now()
        try:
            self.boundary()
            self._work()
        except Crash:
            world.cloud.sim.note("crash", self.holder)
            self.close()
            if world.chance.strikes("takeover", 0.3 if world.schedule.crashes else 0.0):
                for run in world.ledger.runs(only_open=True):
                    if world.ledger.watcher(run.id) == self.holder:
                        world.ledger.expire_leases(run.id)  # as whoever finds its pid dead does
            self._start()
            away_s = world.chance.between("away", 1.0, 300.0) + world.blackout_left_s
            clock.call_at(clock.at + away_s, self.tick)
            return
        except Exception as error:  # noqa: BLE001 -- whatever it is, it must be seen
            world.judge.violated(f"a watcher died of {type(error).__name__}: {error}")
            return
        world.judge.after_a_tick(self.holder, began)
        clock.call_at(clock.at + world.schedule.poll_s, self.tick)

    def _work(self) -> None:
        if not self.world.schedule.one_step_leases:
            self.supervisor.sweep()
            return
        for run in self.world.ledger.runs(only_open=True):
            try:
                self.supervisor.step_once(run.id)
            except LeaseLostError:
                continue

    def close(self) -> None:
        """Its connection ends, and with it whatever it had not committed."""
        if self._ledger is not None:
            self._ledger.close()


class _Noting(Supervisor):
    """A supervisor that says which machines it has seen, and has written down that it did."""

    def __init__(self, noted: Callable[[str], None], *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._noted = noted

    def _attend(self, look: Look) -> Step:
        sighting = look.seen.sighting
        if sighting is not None and sighting.may_bill:
            self._noted(sighting.machine_id)
        return super()._attend(look)


class Mortal:
    """Stands before a part of the world; its process may be killed before and after each call."""

    def __init__(
        self,
        part: object,
        watcher: Watcher,
        checks: dict[str, Callable[..., None]],
        *,
        fails: Callable[[], None] | None = None,
        after: dict[str, Callable[..., None]] | None = None,
    ) -> None:
        """`checks` are called before, `after` afterwards, with the arguments; `fails` may raise."""
        self._part = part
        self._watcher = watcher
        self._checks = checks
        self._fails = fails
        self._after = after or {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not callable(value):
            return value
        watcher, fails = self._watcher, self._fails
        check, after = self._checks.get(name), self._after.get(name)
        if not (watcher.mortal or fails or check or after):
            setattr(self, name, value)
            return value

        def call(*args: Any, **more: Any) -> Any:
            watcher.boundary()
            if fails is not None:
                fails()
            if check is not None:
                check(*args, **more)
            result = value(*args, **more)
            if after is not None:
                after(*args, **more)
            watcher.boundary()
            return result

        setattr(self, name, call)
        return call


def shrink(outcome: Outcome) -> Outcome:
    """The same violation of the same seed, with as few strikes as can be found."""
    best = outcome
    size = max(1, len(best.strikes) // 2)
    while size:
        start = 0
        while start < len(best.strikes):
            fewer = best.strikes[:start] + best.strikes[start + size :]
            tried = survive(outcome.schedule, only=fewer)
            if tried.violations:
                best = replace(tried, strikes=tuple(s for s in tried.strikes if s in set(fewer)))
            else:
                start += size
        size //= 2
    return best
