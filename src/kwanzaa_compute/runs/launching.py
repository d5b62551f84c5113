"""A run without a machine: its end, a pause, or the next launch, with the intent written first."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import (
    BudgetError,
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    StoreError,
)
from kwanzaa_compute.failpoint import failpoint
from kwanzaa_compute.runs.interruptions import interruptions_per_h
from kwanzaa_compute.runs.jobs import job_for
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import (
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
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supply import Buyer
from kwanzaa_compute.store import RunFolder, Store
from kwanzaa_compute.store.folder import RUN

LEASE_S = 120.0
LONGEST_RETRY_AFTER_S = 3600.0
"""A provider that asks for a longer pause than this is asked again all the same."""

_FAULTS: Mapping[type[ProviderError], Fault] = {
    CapacityError: Fault.CAPACITY,
    QuotaError: Fault.QUOTA,
    CredentialsError: Fault.CREDENTIALS,
    InvalidRequestError: Fault.INVALID,
}


class Launcher:
    """Moves runs on that have no open attempt."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Callable[[str], Provider],
        open_store: Callable[[str], Store],
        clock: Clock,
        *,
        environment: Mapping[str, str],
        buyer: Buyer,
    ) -> None:
        """Takes the same parts as the supervisor, and what finds out what runs can have."""
        self._ledger = ledger
        self._provider = provider
        self._open_store = open_store
        self._clock = clock
        self._environment = environment
        self._buyer = buyer

    def move_on(self, lease: Lease, run: RunRecord) -> Step:
        """Ends the run, waits, or launches its next machine."""
        attempts = self._ledger.attempts(run.id)
        last = attempts[-1] if attempts else None
        supply = self._buyer.supply(run)
        verdict = next_launch(
            run,
            attempts,
            supply.prospects,
            self._clock.now(),
            supply.stop_reserve_s,
            handover_s=supply.handover_s,
            project_left_usd=self._ledger.project_left_usd(),
        )
        if last is not None and self._is_done(run):
            # Written after its machine had been given up: what is complete is not trained again.
            verdict = End(RunState.DONE, "the done marker is in the store")
        match verdict:
            case End():
                return self._end(lease, run, last, verdict)
            case Pause(_, reason):
                return Step(run, last, None, reason)
            case Launch():
                attempt = intent(run, verdict, last, self._clock.now())
                attempt = replace(attempt, reserve_s=supply.stop_reserve_s)
                return self._launch(lease, run, attempt, verdict)

    def _end(self, lease: Lease, run: RunRecord, last: AttemptRecord | None, end: End) -> Step:
        self._ledger.end_run(lease, end.state, end.reason)
        self._ledger.note(run.id, str(end.state), end.reason)
        run = self._ledger.run(run.id)
        failpoint("end.recorded")
        try:
            self._folder(run).store.put(RUN, run_json(run, self._ledger.attempts(run.id)))
        except StoreError as error:
            # The ledger knows; only a rebuilt one would have to take the run for unfinished.
            self._ledger.note(run.id, "store", error.message)
        return Step(run, last, None, end.reason)

    def _is_done(self, run: RunRecord) -> bool:
        try:
            return self._folder(run).done() is not None
        except StoreError:
            if run.wish is Wish.TERMINATE:
                return False  # an end that the user insists on does not wait for the store
            raise

    def _launch(self, lease: Lease, run: RunRecord, attempt: AttemptRecord, launch: Launch) -> Step:
        provider = self._provider(attempt.provider)
        before = self._ledger.attempts(run.id)
        folder = self._folder(run)
        job = job_for(
            run,
            attempt,
            provider.info,
            self._environment,
            offer=launch.offer,
            disk_gib=launch.disk_gib,
            store=folder.store,
            now=self._clock.now(),
            interruptions_per_h=interruptions_per_h(attempt, before, self._clock.now()),
        )
        lease = self._ledger.renew_lease(lease, LEASE_S)
        failpoint("launch.begin")
        folder.clear_stop_request()
        folder.store.put(RUN, run_json(run, [*before, attempt]))
        failpoint("launch.run_file_written")
        # Its time and its bill begin now, however long the store took.
        attempt = replace(attempt, intended_at=self._clock.now())
        try:
            self._ledger.add_attempt(lease, attempt)
        except BudgetError as error:
            return Step(run, None, Move.WAIT, error.message)  # another run was faster
        where = f"{provider.info.title}, {launch.offer.gpu.name} {launch.offer.region}".rstrip()
        why = f" ({launch.why})" if launch.why else ""
        self._ledger.note(run.id, "launch", f"attempt {attempt.number} on {where}{why}")
        # Nobody may take over, and find no machine, while the provider still makes up its mind.
        lease = self._ledger.renew_lease(lease, LEASE_S)
        failpoint("launch.intended")
        try:
            machine_id = provider.launch(job, launch.offer)
        except ProviderError as error:
            failpoint("launch.refused")
            return self._refused(lease, run, attempt, error)
        failpoint("launch.answered")
        attempt = self._ledger.update_attempt(
            lease, attempt, state=AttemptState.LIVE, machine_id=machine_id
        )
        return Step(run, attempt, None, f"launched on {where}")

    def _refused(
        self, lease: Lease, run: RunRecord, attempt: AttemptRecord, error: ProviderError
    ) -> Step:
        """A launch that failed: proven to have created nothing, or to be looked for by name."""
        self._ledger.note(run.id, "launch", f"attempt {attempt.number}: {error.message}")
        changes: dict[str, object] = {
            "fault": _FAULTS.get(type(error), Fault.TRANSIENT),
            "reason": error.message,
        }
        if error.retry_after_s is not None:
            wait_s = min(error.retry_after_s, LONGEST_RETRY_AFTER_S)
            changes["retry_at"] = self._clock.now() + wait_s
        certain = error.nothing_was_created
        if certain:
            changes |= {"state": AttemptState.CLOSED, "ending": Move.RELAUNCH}
            changes |= {"closed_at": attempt.intended_at}  # proven: it never cost anything
        attempt = self._ledger.update_attempt(lease, attempt, **changes)
        return Step(run, attempt, None, error.message, nothing_was_created=certain)

    def _folder(self, run: RunRecord) -> RunFolder:
        return RunFolder(self._open_store(run.store_url))
