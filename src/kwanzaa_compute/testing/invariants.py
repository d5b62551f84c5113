"""What may never happen, whatever the world does. Judged by the truth, not by what was seen."""

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from kwanzaa_compute.drivers.contract import Deadline, Job
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Lease,
    Move,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.spending import committed_usd, spent_usd
from kwanzaa_compute.store import RunFolder
from kwanzaa_compute.testing.simcloud import SimMachine, State

if TYPE_CHECKING:
    from kwanzaa_compute.testing.fakecloud import FakeCloud
    from kwanzaa_compute.testing.schedules import Schedule

MOST_LAUNCHES = 300
MOST_CALLS_A_MINUTE = 30


class Holder(Protocol):
    """A watcher, as far as it matters here."""

    holder: str


class Judge:
    """Looks at everything that happens, and remembers what should not have."""

    def __init__(self, ledger: Ledger, cloud: "FakeCloud", schedule: "Schedule") -> None:
        """Reads the ledger through a connection of its own."""
        self.violations: list[str] = []
        self._ledger = ledger
        self._db = ledger._db  # noqa: SLF001 -- one row, many thousand times
        self._cloud = cloud
        self._schedule = schedule
        self.final: set[str] = set()
        """The runs that have come to their end."""
        self._asked: set[str] = set()
        self._token_before = 0
        self._calls = 0
        self._live_since: dict[str, float] = {}

    def violated(self, what: str) -> None:
        """Remembers a violation, with its time."""
        self.violations.append(f"at {self._cloud.clock.elapsed_s:.1f} s: {what}")

    # -- what watchers do ---------------------------------------------------------------------

    def calls(self, watcher: Holder) -> dict[str, Callable[..., None]]:
        """Checks of a watcher's calls to the provider."""
        return {
            "launch": lambda job, offer: self._launch(watcher, job, offer),
            "terminate": self._terminate,
            "fleet": self._count,
            "inspect": lambda _machine_id: self._count(),
        }

    def writes(self) -> dict[str, Callable[..., None]]:
        """Checks of what a watcher is about to write: it may be refused yet."""
        return {"renew_lease": self._about_to_renew}

    def wrote(self, watcher: Holder) -> dict[str, Callable[..., None]]:
        """Checks of what has been written to the ledger, by none but the holder of a lease."""

        def check(lease: Lease, *_args: Any, **_more: Any) -> None:
            if not self._holds(watcher, lease.run_id):
                self.violated(f"{watcher.holder} wrote to {lease.run_id} without the lease")

        def intended(lease: Lease, attempt: AttemptRecord) -> None:
            check(lease)
            self._committed(attempt)

        def updated(lease: Lease, attempt: AttemptRecord, **changes: Any) -> None:
            check(lease)
            self._update(lease, attempt, **changes)

        def ended(lease: Lease, state: RunState, reason: str) -> None:
            check(lease)
            self._end_run(lease, state, reason)
            self.final.add(lease.run_id)

        def renewed(lease: Lease, _ttl_s: float) -> None:
            if self._token_before != lease.token:
                self.violated(f"{watcher.holder} renewed a lease that somebody else has had since")

        return {
            "add_attempt": intended,
            "update_attempt": updated,
            "end_run": ended,
            "renew_lease": renewed,
        }

    def _committed(self, attempt: AttemptRecord) -> None:
        """No two runs may take the same dollars of the project's cap."""
        cap = self._schedule.project_usd
        if cap is None:
            return
        runs = self._ledger.runs()
        attempts = [a for run in runs for a in self._ledger.attempts(run.id)]
        committed = sum((committed_usd(a, self._now) for a in attempts), Decimal(0))
        if committed > cap + len(runs) * self._step_usd + Decimal("0.001"):
            self.violated(
                f"{attempt.name}: ${committed} are committed, the project's cap is ${cap}"
            )

    def _about_to_renew(self, lease: Lease, _ttl_s: float) -> None:
        row = self._db.execute("SELECT token FROM leases WHERE run_id = ?", (lease.run_id,))
        self._token_before = row.fetchone()[0]

    def _holds(self, watcher: Holder, run_id: str) -> bool:
        lease = self._db.execute("SELECT * FROM leases WHERE run_id = ?", (run_id,)).fetchone()
        skew_s = 2 * self._schedule.skew_s
        return (
            lease is not None
            and lease["holder"] == watcher.holder
            and lease["expires_at"] + skew_s >= self._now
        )

    def _count(self) -> None:
        self._calls += 1

    def _launch(self, watcher: Holder, job: Job, offer: Offer) -> None:
        del offer
        self._calls += 1
        if job.name in self._asked:
            self.violated(f"{job.name} was asked for twice")
        self._asked.add(job.name)
        if len(self._asked) > MOST_LAUNCHES * self._schedule.runs:
            self.violated("machines are asked for without end")
        row = self._row(job.name)
        if row is None or row["state"] != AttemptState.INTENDED:
            self.violated(f"{job.name} was asked for without a durable intent")
            return
        if self._folder(row["run_id"]).done() is not None:
            self.violated(f"{job.name} was asked for, and its run is complete")
        if not self._holds(watcher, row["run_id"]):
            self.violated(f"{watcher.holder} launched {job.name} without the lease")

    def _terminate(self, machine_id: str) -> None:
        self._calls += 1
        row = self._db.execute(
            "SELECT name FROM attempts WHERE machine_id = ? AND state = 'live'", (machine_id,)
        ).fetchone()
        if row is not None:
            self.violated(f"the machine of {row['name']} was ended while it counts as live")

    def _update(self, lease: Lease, attempt: AttemptRecord, **changes: Any) -> None:
        del lease
        state, ending = changes.get("state"), changes.get("ending")
        if state is AttemptState.LIVE:
            self._live_since[attempt.name] = self._now
        if state is AttemptState.CLOSED:
            self._nothing_bills(attempt.name, "closed")
        if state is AttemptState.ENDING:
            self._ending(attempt, ending)

    def _ending(self, attempt: AttemptRecord, ending: Move | None) -> None:
        done = self._folder(attempt.run_id).done()
        if ending is Move.FINISH and done is None:
            self.violated(f"{attempt.name} was called finished and is not")
        if ending is Move.RELAUNCH:
            if done is not None:
                self.violated(f"{attempt.name} had finished and was to run again")
            machine = self._cloud.sim.machines.get(attempt.machine_id)
            alone = sum(m.name == attempt.name for m in self._cloud.sim.machines.values()) == 1
            healthy = machine is not None and alone and self._healthy(machine)
            if healthy and not attempt.leaving:
                self.violated(f"{attempt.name} was given up on a healthy machine")

    def _healthy(self, machine: SimMachine) -> bool:
        if machine.state is State.STARTING:
            return self._now - machine.created_at < self._schedule.boot_limit_s - 1
        if machine.state is not State.RUNNING:
            return False
        if self._now - machine.created_at >= self._schedule.boot_limit_s:
            booted = machine.booted_at or 0.0
            if self._now - booted < 2 * self._schedule.poll_s + 300:
                return False  # it came to life while it was being given up
        return not self._cloud.trainers[machine.id].hung

    def _end_run(self, lease: Lease, state: RunState, reason: str) -> None:
        del reason
        for machine in self._cloud.billing:
            if machine.name.startswith(f"kwz-me-{lease.run_id}-"):
                self.violated(f"{lease.run_id} became {state}, and {machine.id} bills")
        done = self._folder(lease.run_id).done()
        insists = self._ledger.run(lease.run_id).wish is Wish.TERMINATE
        if done is not None and insists and self._schedule.store_errors:
            return  # an end that the user insisted on did not wait for a store without answer
        if (done is not None) != (state is RunState.DONE):
            self.violated(f"{lease.run_id} became {state}, the done marker says otherwise")

    def after_a_tick(self, holder: str, began: float) -> None:
        """A watcher that was not killed has left nothing undone."""
        late = self._db.execute(
            "SELECT name FROM attempts JOIN leases USING (run_id) WHERE state = 'live'"
            " AND holder = ? AND expires_at > ? AND intended_at + max_hours * 3600 < ?",
            (holder, self._now, began),
        ).fetchone()
        if late is not None and self._live_since[late["name"]] < began - self._schedule.skew_s:
            self.violated(f"{late['name']} has outlived its time, and its watcher let it")
        for machine in self._cloud.billing:
            self._accounted_for(machine)

    # -- what the cloud does ------------------------------------------------------------------

    def saw(self, kind: str, machine: SimMachine) -> None:
        """Something happened to a machine."""
        if kind != "created":
            return
        self._accounted_for(machine)
        run = machine.name.rpartition("-")[0]
        for other in self._cloud.billing:
            if other.name != machine.name and other.name.rpartition("-")[0] == run:
                self.violated(f"{other.id} and {machine.id} bill for one run")

    def _accounted_for(self, machine: SimMachine) -> None:
        row = self._row(machine.name)
        if row is None:
            self.violated(f"{machine.id} bills, and no attempt knows of {machine.name}")
        elif row["state"] == AttemptState.CLOSED:
            self.violated(f"{machine.id} bills for {machine.name}, which is closed")

    def _nothing_bills(self, name: str, word: str) -> None:
        for machine in self._cloud.billing:
            if machine.name == name:
                self.violated(f"{name} was {word}, and {machine.id} bills")

    # -- the end ------------------------------------------------------------------------------

    def all_final(self, still_open: int) -> None:
        """Once nothing goes wrong any more, every run comes to its end."""
        if still_open and not self.violations:
            self.violated(f"{still_open} runs have not come to their end")

    def at_the_end(self) -> None:
        """What holds of the whole history."""
        if self.violations:
            return
        for machine in self._cloud.billing:
            self.violated(f"{machine.id} bills for ever")
        minutes = self._cloud.clock.elapsed_s / 60
        if self._calls > MOST_CALLS_A_MINUTE * minutes * self._schedule.watchers:
            self.violated(f"{self._calls} calls in {minutes:.0f} minutes")
        billed = Decimal(0)
        runs = self._ledger.runs()
        for run in runs:
            billed += self._money(run.id)
            self._progress(run.id)
        cap = self._schedule.project_usd
        if cap is not None and self._is_strict and billed > cap + len(runs) * self._step_usd:
            self.violated(f"${billed} were billed, the project's cap is ${cap}")

    @property
    def _is_strict(self) -> bool:
        """Whether a machine's billing ends with its time, even if no watcher ends it."""
        return self._schedule.deadline is not Deadline.BY_WATCHER

    @property
    def _step_usd(self) -> Decimal:
        """What the dearest billing step costs."""
        dearest = max(self._schedule.offers, key=lambda o: o.usd_per_hour or 0)
        return (dearest.usd_per_hour or Decimal(0)) * dearest.billing_step_s / 3600

    def _money(self, run_id: str) -> Decimal:
        by_name: defaultdict[str, Decimal] = defaultdict(Decimal)
        for machine in self._cloud.sim.machines.values():
            if machine.name.startswith(f"kwz-me-{run_id}-"):
                usd = self._cloud.sim.billed_usd(machine, disk=False)
                by_name[machine.name] = max(by_name[machine.name], usd)  # a double is no fault
        billed = sum(by_name.values(), Decimal(0))
        counted = spent_usd(self._ledger.attempts(run_id), self._now)
        if counted + Decimal("0.000001") < billed:
            self.violated(f"{run_id}: ${billed} were billed, and only ${counted} counted")
        if self._is_strict and billed > self._schedule.max_usd + self._step_usd:
            self.violated(f"{run_id}: ${billed} were billed, the cap is ${self._schedule.max_usd}")
        return billed

    def _progress(self, run_id: str) -> None:
        trainers = [
            t
            for machine_id, t in self._cloud.trainers.items()
            if self._cloud.sim.machines[machine_id].name.startswith(f"kwz-me-{run_id}-")
        ]
        for trainer in trainers:
            if trainer.began is None:
                continue
            at, step = trainer.began
            known = [s for t in trainers for when, s in t.saved if when < at]
            if step < max(known, default=0):
                self.violated(f"{run_id} began again at step {step}, it had {max(known)}")

    # -- inside -------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return self._cloud.clock.at

    def _row(self, name: str) -> Any:
        return self._db.execute("SELECT * FROM attempts WHERE name = ?", (name,)).fetchone()

    def _folder(self, run_id: str) -> RunFolder:
        return RunFolder(self._cloud.stores.open(f"memory://{run_id}"))
