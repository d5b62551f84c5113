"""The supervisor: observe, decide, write the decision down, act. Any number may run at once.

One `step` of one run never waits for a machine; `watch` repeats it until the run is final.
What happens to a machine is decided in `lifecycle`, where a run goes next in `recovery`.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Phase, ProviderInfo
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import KwanzaaError, LeaseLostError, MayBeBillingError, StoreError
from kwanzaa_compute.failpoint import failpoint
from kwanzaa_compute.runs import lifecycle
from kwanzaa_compute.runs.launching import LEASE_S, Launcher
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.observation import Fleets, Observer, Seen
from kwanzaa_compute.runs.records import (
    ENDINGS,
    AttemptRecord,
    AttemptState,
    Fault,
    Held,
    Lease,
    Move,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supply import Buyer
from kwanzaa_compute.store import RunFolder, StopRequest, Store

UNCONFIRMED_S = 300.0
"""After so many seconds of terminating without proof of absence, the watcher raises its voice."""
MOST_AT_ONCE = 500
"""So many runs of a sweep are looked at before what was seen of them is written down ..."""
MOST_LOOKING_S = 20.0
"""... or as many as can be looked at in so many seconds: their leases last no longer than that."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a run has shown; `attempt` knows of it already."""

    held: Held
    attempt: AttemptRecord
    seen: Seen
    is_news: bool


class Supervisor:
    """Sees runs through. `holder` names this watcher in the leases that it takes."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Callable[[str], Provider],
        open_store: Callable[[str], Store],
        clock: Clock,
        *,
        holder: str,
        environment: Mapping[str, str],
    ) -> None:
        """`provider` gives the provider of a name, `open_store` the store at a URL."""
        self._ledger = ledger
        self._provider = provider
        self._open_store = open_store
        self._clock = clock
        self._holder = holder
        self._observer = Observer(ledger, provider, open_store, clock)
        self._buyer = Buyer(ledger, provider, clock)
        self._launcher = Launcher(
            ledger, provider, open_store, clock, environment=environment, buyer=self._buyer
        )

    # -- faces --------------------------------------------------------------------------------

    def watch(
        self, run_id: str, *, poll_s: float, on_step: Callable[[Step], None] = lambda _step: None
    ) -> RunRecord:
        """Sees one run through to its end and returns it.

        Raises `LeaseLostError` where another watcher has it, and `MayBeBillingError` where a
        machine's end cannot be confirmed; the run then stays open and can be watched again.
        """
        lease: Lease | None = None
        try:
            while True:
                lease = self._lease(run_id)
                try:
                    step = self.step(lease)
                except LeaseLostError:
                    continue  # the provider was slow: ours again, unless somebody else has it
                on_step(step)
                if step.run.state is not RunState.RUNNING:
                    return step.run
                self._complain(step.attempt)
                if not step.nothing_was_created:
                    self._clock.sleep(poll_s)
        finally:
            if lease is not None:
                self._ledger.release_lease(lease)

    def step_once(self, run_id: str) -> Step:
        """Takes the run's lease for one step, and lets it go again."""
        lease = self._lease(run_id)
        try:
            return self.step(lease)
        finally:
            self._ledger.release_lease(lease)

    def be_present(self) -> None:
        """Says that this watcher sweeps again and again: others may leave runs to it."""
        self._ledger.be_present(self._holder, LEASE_S)

    def release(self) -> None:
        """Lets go of every run that this watcher holds, and says that it leaves."""
        self._ledger.release_all(self._holder)

    def sweep(self) -> list[Step]:
        """One step of every open run that no other watcher holds; one listing a provider.

        What was seen of many runs is written down in one transaction.
        """
        fleets: Fleets = {}
        steps: list[Step] = []
        waiting = deque(self._ledger.open_runs())
        while waiting:
            some = [waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(waiting)))]
            held = self._ledger.take_leases(some, self._holder, LEASE_S)
            looks, unseen = self._look_at([h for h in held if _has_machine(h)], fleets)
            waiting.extendleft(reversed(unseen))
            steps += self._attend_all(looks)
            for without in held:
                if not _has_machine(without):
                    steps += self._alone(without, partial(self._step_again, without.run.id, fleets))
        return steps

    def step(self, lease: Lease, fleets: Fleets | None = None) -> Step:
        """One look at one run and the one move that follows from it."""
        run, attempt = self._ledger.run(lease.run_id), self._ledger.last_attempt(lease.run_id)
        if run.state is not RunState.RUNNING:
            return Step(run, attempt, None, run.reason)
        held = Held(lease, run, attempt)
        try:
            if not _has_machine(held):
                return self._launcher.move_on(lease, run)
            look = self._look(held, {} if fleets is None else fleets)
            if look.is_news and not self._ledger.remember([(lease, look.attempt)], LEASE_S):
                self._ledger.check_lease(lease)
            return self._attend(look)
        except StoreError as error:
            return self._unstored(held, error)

    def _step_again(self, run_id: str, fleets: Fleets) -> Step:
        """A step under a lease of its own: launches take their time, and leases run out."""
        return self.step(self._lease(run_id), fleets)

    # -- an attempt that is open --------------------------------------------------------------

    def _look_at(self, held: list[Held], fleets: Fleets) -> tuple[list[Look], list[str]]:
        """Looks at runs until it has taken too long; the ids of those that are left come second."""
        began = self._clock.monotonic()
        looks: list[Look] = []
        for one in held:
            looks.append(self._look(one, fleets))
            if self._clock.monotonic() - began > MOST_LOOKING_S:
                break
        return looks, [one.run.id for one in held[len(looks) :]]

    def _look(self, held: Held, fleets: Fleets) -> Look:
        if held.attempt is None:
            raise KwanzaaError(f"run {held.run.id} has no attempt to look at")
        seen = self._observer.look(held.run, held.attempt, fleets)
        attempt = self._with_news(held.attempt, seen)
        return Look(held, attempt, seen, is_news=attempt is not held.attempt)

    def _attend_all(self, looks: list[Look]) -> list[Step]:
        """Writes down what was seen, then makes each run's move, if any."""
        news = [(look.held.lease, look.attempt) for look in looks if look.is_news]
        written = {lease.run_id for lease in self._ledger.remember(news, LEASE_S)} if news else {}
        steps: list[Step] = []
        for look in looks:
            if not look.is_news or look.held.run.id in written:
                steps += self._alone(look.held, partial(self._attend, look))
        return steps

    def _attend(self, look: Look) -> Step:
        run, seen = look.held.run, look.seen
        facts = self._facts(run, look.attempt, seen)
        decision = lifecycle.decide(
            seen.sighting, seen.heartbeat, facts, self._limits(look.attempt)
        )
        attempt = look.attempt
        if decision[0] is not Move.WAIT or seen.doubles:
            # What was seen still holds if nobody else has had the run since.
            lease = self._ledger.renew_lease(look.held.lease, LEASE_S)
            attempt = self._act(lease, attempt, seen, decision)
        return Step(run, attempt, *decision, seen.heartbeat)

    def _alone(self, held: Held, what: Callable[[], Step]) -> list[Step]:
        """One run's step; its trouble must not leave the others alone."""
        try:
            return [what()]
        except LeaseLostError:
            return []
        except StoreError as error:
            return [self._unstored(held, error)]
        except KwanzaaError as error:
            self._ledger.note(held.run.id, "trouble", error.message)
            return []

    def _unstored(self, held: Held, error: StoreError) -> Step:
        """Nothing was launched or forgotten: storage is asked again at the next step."""
        self._ledger.note(held.run.id, "store", error.message)
        return Step(held.run, held.attempt, Move.WAIT, error.message)

    def _with_news(self, attempt: AttemptRecord, seen: Seen) -> AttemptRecord:
        """The attempt with what changed: the heartbeat, and since when the machine is absent."""
        now = self._clock.now()
        changes: dict[str, Any] = {}
        beat = seen.heartbeat
        if beat is not None and beat.sequence != attempt.beat_sequence:
            changes |= {
                "beat_sequence": beat.sequence,
                "beat_changed_at": now,
                "phase": beat.phase,
                "step": beat.step,
                "total_steps": max(beat.total_steps, attempt.total_steps),
                "checkpoint": beat.checkpoint or attempt.checkpoint,
            }
        if seen.sighting is not None:
            absent = seen.sighting.phase is Phase.GONE and not seen.doubles
            if not absent and attempt.absent_since is not None:
                changes["absent_since"] = None
            if absent and attempt.absent_since is None:
                changes["absent_since"] = now
            if seen.sighting.exit_code is not None and attempt.exit_code is None:
                changes["exit_code"] = seen.sighting.exit_code
        return replace(attempt, **changes) if changes else attempt

    def _facts(self, run: RunRecord, attempt: AttemptRecord, seen: Seen) -> lifecycle.Attempt:
        now = self._clock.now()
        since = attempt.beat_changed_at or attempt.intended_at
        asked, absent = attempt.asked_to_stop_at, attempt.absent_since
        may_leave = attempt.state is AttemptState.LIVE and run.wish is Wish.RUN and asked is None
        return lifecycle.Attempt(
            state=attempt.state,
            wish=run.wish,
            trains=run.trains,
            age_s=now - attempt.intended_at,
            quiet_s=seen.looked_at - since,
            absent_s=None if absent is None or seen.sighting is None else seen.asked_at - absent,
            asked_to_stop_s=None if asked is None else now - asked,
            leaving=attempt.leaving,
            better_elsewhere=self._buyer.better_than(run, attempt) if may_leave else "",
            done=seen.done,
            failure=seen.failure,
            store_read=seen.store_read,
        )

    def _limits(self, attempt: AttemptRecord) -> lifecycle.Limits:
        info = self._provider(attempt.provider).info
        return lifecycle.Limits(
            settle_s=info.settle_s,
            boot_s=info.boot_s,
            max_age_s=attempt.max_hours * 3600,
            stop_reserve_s=info.stop_reserve_s,
        )

    def _act(
        self, lease: Lease, attempt: AttemptRecord, seen: Seen, decision: lifecycle.Decision
    ) -> AttemptRecord:
        move, reason = decision
        now = self._clock.now()
        self._end_doubles(lease, attempt, seen)
        if move is Move.WAIT:
            return attempt
        if move is not Move.CONFIRM:
            self._ledger.note(attempt.run_id, str(move), f"attempt {attempt.number}: {reason}")
        if move is Move.ADOPT and seen.sighting is not None:
            return self._ledger.update_attempt(
                lease, attempt, state=AttemptState.LIVE, machine_id=seen.sighting.machine_id
            )
        if move in (Move.ASK_TO_STOP, Move.LEAVE):
            url = self._ledger.run(attempt.run_id).store_url
            RunFolder(self._open_store(url)).put_stop_request(StopRequest(attempt.number, reason))
            failpoint("stop.asked")
            leaving = move is Move.LEAVE
            return self._ledger.update_attempt(
                lease, attempt, asked_to_stop_at=now, leaving=leaving
            )
        if move in ENDINGS:
            attempt = self._ledger.update_attempt(
                lease,
                attempt,
                state=AttemptState.ENDING,
                ending=move,
                ending_at=now,
                fault=Fault.NONE if attempt.leaving else _fault(move, seen),
                reason=reason,
            )
            failpoint("end.decided")
            return self._terminate(lease, attempt)
        if move is Move.CLOSE:
            return self._close(lease, attempt, reason)
        return self._terminate(lease, attempt)

    def _end_doubles(self, lease: Lease, attempt: AttemptRecord, seen: Seen) -> None:
        for machine_id in seen.doubles:
            self._ledger.note(attempt.run_id, "double", f"a second machine, {machine_id}, is ended")
            self._terminate(lease, attempt, machine_id)

    def _terminate(
        self, lease: Lease, attempt: AttemptRecord, machine_id: str = ""
    ) -> AttemptRecord:
        """Asks for a machine's end; whether it came is seen at the next step."""
        self._ledger.check_lease(lease)
        try:
            self._provider(attempt.provider).terminate(machine_id or attempt.machine_id)
        except KwanzaaError as error:
            self._ledger.note(attempt.run_id, "terminate", error.message)
        failpoint("terminate.asked")
        return attempt

    def _close(self, lease: Lease, attempt: AttemptRecord, reason: str) -> AttemptRecord:
        nothing = attempt.ending is None
        return self._ledger.update_attempt(
            lease,
            attempt,
            state=AttemptState.CLOSED,
            closed_at=self._clock.now(),
            ending=attempt.ending or Move.RELAUNCH,
            fault=attempt.fault or (Fault.TRANSIENT if nothing else Fault.NONE),
            reason=attempt.reason or reason,
        )

    def _complain(self, attempt: AttemptRecord | None) -> None:
        if attempt is None or attempt.state is not AttemptState.ENDING:
            return
        info = self._provider(attempt.provider).info
        if self._clock.now() - (attempt.ending_at or 0.0) < UNCONFIRMED_S + info.settle_s:
            return
        raise unconfirmed(attempt, info)

    def _lease(self, run_id: str) -> Lease:
        lease = self._ledger.take_lease(run_id, self._holder, LEASE_S)
        if lease is None:
            raise LeaseLostError(
                f"another watcher sees run {run_id} through",
                mend=f"kwanzaa monitor {run_id} shows it",
            )
        return lease


def unconfirmed(attempt: AttemptRecord, info: ProviderInfo) -> MayBeBillingError:
    """The words for a machine that may still be billing: which, where, how much, where to look."""
    return MayBeBillingError(
        f"machine {attempt.machine_id or attempt.name} on {info.title} may still be billing"
        f" ${attempt.usd_per_hour:.2f}/h: its end could not be confirmed",
        mend=f"look at {info.console_url or 'its console'} now; then kwanzaa watch",
    )


def _has_machine(held: Held) -> bool:
    """Whether there may be a machine of this run's."""
    return held.attempt is not None and held.attempt.state is not AttemptState.CLOSED


def _fault(move: Move, seen: Seen) -> Fault:
    if move is not Move.RELAUNCH:
        return Fault.NONE
    if seen.failure is not None and seen.failure.stopped:
        return Fault.PREEMPTED
    if seen.failure is not None and seen.failure.bad_machine:
        return Fault.MACHINE
    if seen.sighting is not None and seen.sighting.phase in (Phase.PREEMPTED, Phase.GONE):
        return Fault.PREEMPTED
    return Fault.MACHINE if seen.heartbeat is None else Fault.CRASHED
