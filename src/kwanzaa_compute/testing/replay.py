"""A run replayed on traces of spot capacity, in steps: what would a policy have paid, and when?

    paid = replay(places, task, recovery, start=120)

`recovery` is the policy that the supervisor uses, called with the same records. A step is a
trace's own interval. What a machine does in between is reduced to what costs time and money: it
sets up, works, saves at the end of each step, and loses the last step's work when it is taken.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from kwanzaa_compute.market.offers import Availability
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.deadlines import cost_usd, reason_to_leave
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Fault,
    Move,
    Prospect,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.recovery import Launch, Pause, intent, next_launch, usable
from kwanzaa_compute.runs.spending import spent_usd
from kwanzaa_compute.testing.fakeclock import START
from kwanzaa_compute.testing.weather import Place

_GIVEN_UP = 20
"""A run that is not finished after so many times its deadline never will be."""


@dataclass(frozen=True, slots=True)
class Task:
    """A machine's set-up, the work and the deadline, in whole steps of `step_s` seconds."""

    set_up: int
    work: int
    deadline: int
    step_s: float

    @classmethod
    def of(cls, work_h: float, slack: float, *, set_up_s: float, step_s: float) -> "Task":
        """A job of so many hours that must be ready within `slack` times as many."""
        return cls(
            math.ceil(set_up_s / step_s),
            math.ceil(work_h * 3600 / step_s),
            math.floor(slack * work_h * 3600 / step_s),
            step_s,
        )

    @property
    def alone(self) -> int:
        """Steps that one machine takes which nobody takes back."""
        return self.set_up + self.work

    def prospect(self, place: Place) -> Prospect:
        """How this task would go at a place."""
        step_s = self.step_s
        return Prospect(place.offer, self.set_up * step_s, self.work * step_s, step_s)


@dataclass(frozen=True, slots=True)
class Paid:
    """What became of a replay: dollars, and the step at whose end it was finished; None: never."""

    usd: Decimal
    finished: int | None
    attempts: tuple[AttemptRecord, ...]
    gambled: bool = False
    """It was on a spot machine whose loss would have cost the deadline, even with on-demand."""

    def kept(self, task: Task) -> bool:
        """Whether it was finished by the deadline."""
        return self.finished is not None and self.finished <= task.deadline


class Policy(Protocol):
    """Where a run goes next, and whether it leaves a machine that works."""

    def next(
        self, run: RunRecord, attempts: Sequence[AttemptRecord], can: list[Prospect], now: float
    ) -> Prospect | None:
        """The place to launch at; None: wait. `can` says of each place whether it is sold out."""

    def leaves(
        self, run: RunRecord, attempts: Sequence[AttemptRecord], can: list[Prospect], now: float
    ) -> bool:
        """Whether to leave the machine of the last attempt."""


class Recovery:
    """The library's own policy, as the supervisor calls it."""

    def next(
        self, run: RunRecord, attempts: Sequence[AttemptRecord], can: list[Prospect], now: float
    ) -> Prospect | None:
        """What `next_launch` says."""
        verdict = next_launch(run, attempts, can, now, 0.0)
        if isinstance(verdict, Launch):
            return next(p for p in can if p.offer is verdict.offer)
        if isinstance(verdict, Pause):
            return None
        raise AssertionError(f"the run was given up: {verdict.reason}")

    def leaves(
        self, run: RunRecord, attempts: Sequence[AttemptRecord], can: list[Prospect], now: float
    ) -> bool:
        """What `reason_to_leave` says."""
        return bool(reason_to_leave(run, attempts, usable(run, attempts, can, now), now, 0.0))


class AtOnce:
    """Relaunches at once in the cheapest place that has a machine, and stays there."""

    def next(
        self, run: RunRecord, attempts: Sequence[AttemptRecord], can: list[Prospect], now: float
    ) -> Prospect | None:
        """The cheapest place, on-demand among them; it never waits."""
        del run, attempts, now
        there = [p for p in can if p.offer.availability is not Availability.SOLD_OUT]
        return min(there, key=lambda p: cost_usd(p, 1.0), default=None)

    def leaves(
        self, run: RunRecord, attempts: Sequence[AttemptRecord], can: list[Prospect], now: float
    ) -> bool:
        """Never."""
        del run, attempts, can, now
        return False


class _World:
    """The places at a step: which of them have a machine."""

    def __init__(self, places: Sequence[Place], task: Task, start: int) -> None:
        self._places = places
        self._start = start
        there = [task.prospect(p) for p in places]
        self._known = [(p, _sold_out(p)) for p in there]
        self._by_place = {p.place: number for number, p in enumerate(there)}

    def has(self, place: tuple[str, str, str], step: int) -> bool:
        """Whether a place has a machine throughout this step."""
        return self._has(self._by_place[place], step)

    def _has(self, number: int, step: int) -> bool:
        trace = self._places[number].trace
        return trace is None or trace.available[(self._start + step) % len(trace.available)]

    def can(self, step: int) -> list[Prospect]:
        """All places, with what the provider would say of them now."""
        return [
            here if self._has(number, step) else gone
            for number, (here, gone) in enumerate(self._known)
        ]


def _sold_out(prospect: Prospect) -> Prospect:
    return replace(prospect, offer=replace(prospect.offer, availability=Availability.SOLD_OUT))


def replay(places: Sequence[Place], task: Task, policy: Policy, start: int = 0) -> Paid:
    """Follows a policy from a step of the traces on, until the work is done.

    All traces have the task's step. A trace that comes to its end begins again.
    """
    course = _Course(_World(places, task, start), run_of(places, task), task)
    for step in range(_GIVEN_UP * task.deadline):
        course.lose_or_leave(policy, step)
        if course.live is None:
            course.launch(policy, step)
        if course.live is not None and course.work(step):
            return course.paid(step + 1)
    return course.paid(None)


class _Course:
    """What has happened so far: the ledger's records, and how far the machine has come."""

    def __init__(self, world: _World, run: RunRecord, task: Task) -> None:
        self._world = world
        self._run = run
        self._task = task
        self._closed: list[AttemptRecord] = []
        self.live: AttemptRecord | None = None
        self._set_up = 0
        """Steps of set-up that its machine still has before it."""
        self._began = 0
        self._done = 0
        """Steps of work: when its machine began, and now."""
        self._gambled = False

    def lose_or_leave(self, policy: Policy, step: int) -> None:
        """A machine may be taken back before a step, or left."""
        live = self.live
        if live is None:
            return
        if not self._world.has(live.place, step):
            self._done = max(self._began, self._done - 1)
            self._close(live, step, Fault.PREEMPTED)
        elif policy.leaves(
            self._run, [*self._closed, live], self._world.can(step), self._now(step)
        ):
            self._close(live, step, Fault.NONE)

    def launch(self, policy: Policy, step: int) -> None:
        """Whatever the policy says when there is no machine."""
        now = self._now(step)
        chosen = policy.next(self._run, self._closed, self._world.can(step), now)
        if chosen is None:
            return
        last = self._closed[-1] if self._closed else None
        live = intent(self._run, Launch(chosen.offer, self._run.max_hours), last, now)
        self.live = replace(live, state=AttemptState.LIVE, total_steps=self._task.work)
        self._set_up, self._began = self._task.set_up, self._done

    def work(self, step: int) -> bool:
        """One step on the machine; whether that was the last."""
        live, task = self.live, self._task
        if live is None:
            return False
        if live.spot and step + 1 + task.alone - self._done > task.deadline:
            self._gambled = True
        if self._set_up:
            self._set_up -= 1
            return False
        self._done += 1
        saved = checkpoint_name(self._done - 1, live.number)
        self.live = replace(live, phase="train", step=self._done, checkpoint=saved)
        return self._done >= task.work

    def paid(self, finished: int | None) -> Paid:
        """The bill, at the end of the step that was the last."""
        if self.live is not None and finished is not None:
            self._close(self.live, finished, Fault.NONE)
        usd = spent_usd(self._closed, 0.0)
        return Paid(usd, finished, tuple(self._closed), self._gambled)

    def _now(self, step: int) -> float:
        return self._run.created_at + step * self._task.step_s

    def _close(self, live: AttemptRecord, step: int, fault: Fault) -> None:
        ended = replace(
            live,
            state=AttemptState.CLOSED,
            ending=Move.RELAUNCH,
            fault=fault,
            closed_at=self._now(step),
            step=self._done,
            checkpoint=checkpoint_name(self._done, live.number),
        )
        self._closed.append(ended)
        self.live = None


def checkpoint_name(step: int, attempt: int) -> str:
    """As trainers name their checkpoints."""
    return f"ckpt-{step}-{attempt}"


def run_of(places: Sequence[Place], task: Task) -> RunRecord:
    """The run of a task, as the ledger would hold it. Its cap and its hours bind nobody."""
    return RunRecord(
        id="r1",
        name="replay",
        owner="me",
        store_url="memory://run",
        state=RunState.RUNNING,
        wish=Wish.RUN,
        created_at=START,
        config="{}",
        candidates=dump_prospects([task.prospect(place) for place in places]),
        max_usd=Decimal(100_000),
        max_hours=10_000.0,
        output_dir="adapter",
        deadline_at=START + task.deadline * task.step_s,
    )
