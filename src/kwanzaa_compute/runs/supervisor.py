"""The supervisor: observe, decide, write the decision down, act. Any number may run at once.

One `step` of one run never waits for a machine; `watch` repeats it until the run is final.
What happens to a machine is decided in `lifecycle`, where a run goes next in `recovery`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    KwanzaaError,
    LeaseLostError,
    MayBeBillingError,
    ProviderError,
    QuotaError,
    StoreError,
)
from kwanzaa_compute.runs import lifecycle
from kwanzaa_compute.runs.jobs import job_for
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.observation import Fleets, Observer, Seen
from kwanzaa_compute.runs.records import (
    ENDINGS,
    AttemptRecord,
    AttemptState,
    Fault,
    Lease,
    Move,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.recovery import End, Launch, Pause, intent, next_launch
from kwanzaa_compute.runs.run_file import run_json
from kwanzaa_compute.runs.supply import Buyer
from kwanzaa_compute.store import Heartbeat, RunFolder, StopRequest, Store
from kwanzaa_compute.store.folder import RUN

LEASE_S = 120.0
UNCONFIRMED_S = 300.0
"""After so many seconds of terminating without proof of absence, the watcher raises its voice."""

_FAULTS: Mapping[type[ProviderError], Fault] = {
    CapacityError: Fault.CAPACITY,
    QuotaError: Fault.QUOTA,
    CredentialsError: Fault.CREDENTIALS,
    InvalidRequestError: Fault.INVALID,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What one step saw and did, for whoever shows it."""

    run: RunRecord
    attempt: AttemptRecord | None
    move: Move | None
    reason: str
    heartbeat: Heartbeat | None = None
    nothing_was_created: bool = False
    """A launch was refused for certain: the next offer can be tried at once."""


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
        self._environment = environment
        self._observer = Observer(ledger, provider, open_store, clock)
        self._buyer = Buyer(ledger, provider, clock)

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

    def sweep(self) -> list[Step]:
        """One step of every open run that no other watcher holds; one listing a provider."""
        fleets: Fleets = {}
        steps: list[Step] = []
        for run in self._ledger.runs(only_open=True):
            lease = self._ledger.take_lease(run.id, self._holder, LEASE_S)
            if lease is None:
                continue
            try:
                steps.append(self.step(lease, fleets))
            except LeaseLostError:
                continue
            except KwanzaaError as error:  # one run's trouble must not leave the others alone
                self._ledger.note(run.id, "trouble", error.message)
        return steps

    def step(self, lease: Lease, fleets: Fleets | None = None) -> Step:
        """One look at one run and the one move that follows from it."""
        run = self._ledger.run(lease.run_id)
        attempts = self._ledger.attempts(run.id)
        last = attempts[-1] if attempts else None
        if run.state is not RunState.RUNNING:
            return Step(run, last, None, run.reason)
        try:
            if last is None or last.state is AttemptState.CLOSED:
                return self._next(lease, run, attempts)
            return self._attend(lease, run, last, {} if fleets is None else fleets)
        except StoreError as error:
            # Nothing was launched or forgotten: storage is asked again at the next step.
            self._ledger.note(run.id, "store", error.message)
            return Step(run, last, Move.WAIT, error.message)

    # -- an attempt that is open --------------------------------------------------------------

    def _attend(self, lease: Lease, run: RunRecord, attempt: AttemptRecord, fleets: Fleets) -> Step:
        seen = self._observer.look(run, attempt, fleets)
        attempt = self._remember(lease, attempt, seen)
        facts = self._facts(run, attempt, seen)
        move, reason = lifecycle.decide(seen.sighting, seen.heartbeat, facts, self._limits(attempt))
        attempt = self._act(lease, attempt, seen, (move, reason))
        return Step(run, attempt, move, reason, seen.heartbeat)

    def _remember(self, lease: Lease, attempt: AttemptRecord, seen: Seen) -> AttemptRecord:
        """Writes down what changed: the heartbeat, and since when the machine is absent."""
        now = self._clock.now()
        changes: dict[str, object] = {}
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
        return self._ledger.update_attempt(lease, attempt, **changes) if changes else attempt

    def _facts(self, run: RunRecord, attempt: AttemptRecord, seen: Seen) -> lifecycle.Attempt:
        now = self._clock.now()
        since = attempt.beat_changed_at or attempt.intended_at
        asked, absent = attempt.asked_to_stop_at, attempt.absent_since
        may_leave = attempt.state is AttemptState.LIVE and run.wish is Wish.RUN and asked is None
        return lifecycle.Attempt(
            state=attempt.state,
            wish=run.wish,
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
        raise MayBeBillingError(
            f"machine {attempt.machine_id or attempt.name} on {info.title} may still be billing"
            f" ${attempt.usd_per_hour}/h: its end could not be confirmed",
            mend=f"look at {info.console_url or 'its console'} now; then kwanzaa watch",
        )

    # -- a run without a machine --------------------------------------------------------------

    def _next(self, lease: Lease, run: RunRecord, attempts: list[AttemptRecord]) -> Step:
        last = attempts[-1] if attempts else None
        supply = self._buyer.supply(run)
        verdict = next_launch(
            run,
            attempts,
            supply.prospects,
            self._clock.now(),
            supply.stop_reserve_s,
            handover_s=supply.handover_s,
        )
        if last is not None and self._is_done(run):
            # Written after its machine had been given up: what is complete is not trained again.
            verdict = End(RunState.DONE, "the done marker is in the store")
        match verdict:
            case End(state, reason):
                self._ledger.end_run(lease, state, reason)
                self._ledger.note(run.id, str(state), reason)
                return Step(self._ledger.run(run.id), last, None, reason)
            case Pause(_, reason):
                return Step(run, last, None, reason)
            case Launch():
                attempt = intent(run, verdict, last, self._clock.now())
                return self._launch(lease, run, attempt, verdict)

    def _is_done(self, run: RunRecord) -> bool:
        try:
            return self._folder(run).done() is not None
        except StoreError:
            if run.wish is Wish.TERMINATE:
                return False  # an end that the user insists on does not wait for the store
            raise

    def _launch(self, lease: Lease, run: RunRecord, attempt: AttemptRecord, launch: Launch) -> Step:
        provider = self._provider(attempt.provider)
        folder = self._folder(run)
        job = job_for(
            run,
            attempt,
            provider.info,
            self._environment,
            offer=launch.offer,
            disk_gib=50.0,
            store=folder.store,
            now=self._clock.now(),
        )
        lease = self._ledger.renew_lease(lease, LEASE_S)
        folder.clear_stop_request()
        folder.store.put(RUN, run_json(run, [*self._ledger.attempts(run.id), attempt]))
        # Its time and its bill begin now, however long the store took.
        attempt = replace(attempt, intended_at=self._clock.now())
        self._ledger.add_attempt(lease, attempt)
        where = f"{provider.info.title}, {launch.offer.gpu.name} {launch.offer.region}".rstrip()
        why = f" ({launch.why})" if launch.why else ""
        self._ledger.note(run.id, "launch", f"attempt {attempt.number} on {where}{why}")
        # Nobody may take over, and find no machine, while the provider still makes up its mind.
        lease = self._ledger.renew_lease(lease, LEASE_S)
        try:
            machine_id = provider.launch(job, launch.offer)
        except ProviderError as error:
            self._ledger.note(run.id, "launch", f"attempt {attempt.number}: {error.message}")
            fault = _FAULTS.get(type(error), Fault.TRANSIENT)
            changes: dict[str, object] = {"fault": fault, "reason": error.message}
            certain = error.nothing_was_created
            if certain:
                changes |= {"state": AttemptState.CLOSED, "ending": Move.RELAUNCH}
                changes |= {"closed_at": attempt.intended_at}  # proven: it never cost anything
            attempt = self._ledger.update_attempt(lease, attempt, **changes)
            return Step(run, attempt, None, error.message, nothing_was_created=certain)
        attempt = self._ledger.update_attempt(
            lease, attempt, state=AttemptState.LIVE, machine_id=machine_id
        )
        return Step(run, attempt, None, f"launched on {where}")

    def _folder(self, run: RunRecord) -> RunFolder:
        return RunFolder(self._open_store(run.store_url))

    def _lease(self, run_id: str) -> Lease:
        lease = self._ledger.take_lease(run_id, self._holder, LEASE_S)
        if lease is None:
            raise LeaseLostError(
                f"another watcher sees run {run_id} through",
                mend=f"kwanzaa monitor {run_id} shows it",
            )
        return lease


def _fault(move: Move, seen: Seen) -> Fault:
    if move is not Move.RELAUNCH:
        return Fault.NONE
    if seen.failure is not None and seen.failure.stopped:
        return Fault.PREEMPTED
    if seen.sighting is not None and seen.sighting.phase in (Phase.PREEMPTED, Phase.GONE):
        return Fault.PREEMPTED
    return Fault.MACHINE if seen.heartbeat is None else Fault.CRASHED
