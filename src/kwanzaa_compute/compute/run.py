"""`Run`: one run as its user sees it. It holds no state of its own: ledger and store have it."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.compute.calibration import learn_speed
from kwanzaa_compute.compute.receipt import Receipt, receipt_of
from kwanzaa_compute.drivers.contract import SSHAccess
from kwanzaa_compute.errors import (
    KwanzaaError,
    LeaseLostError,
    RunError,
    StoreError,
    UsageError,
)
from kwanzaa_compute.market.speed import SpeedReceipt
from kwanzaa_compute.runs.candidates import load_offers
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Event,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.store import Done, Heartbeat, RunFolder
from kwanzaa_compute.store.checkpoints import list_checkpoints
from kwanzaa_compute.store.folder import ADAPTER, member_url
from kwanzaa_compute.store.objects import inside

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute
    from kwanzaa_compute.runs.step import Step


POLL_S = 15.0
POLL_OWN_MACHINE_S = 0.5
"""Seconds between two looks at a run: providers limit how often they may be asked."""


class Run:
    """One run: watch it, stop it, read it, fetch its adapter."""

    def __init__(self, compute: "Compute", run_id: str) -> None:
        """Use `Compute.train`, `Compute.run` or `Compute.runs` instead."""
        self._compute = compute
        self.id = run_id

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self.state})"

    # -- reading ------------------------------------------------------------------------------

    @property
    def record(self) -> RunRecord:
        """The ledger's row of this run, read afresh."""
        return self._compute.ledger.run(self.id)

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self.record.state

    @property
    def attempts(self) -> list[AttemptRecord]:
        """Its attempts, oldest first."""
        return self._compute.ledger.attempts(self.id)

    @property
    def events(self) -> list[Event]:
        """Its history, oldest first."""
        return self._compute.ledger.events(self.id)

    @property
    def receipt(self) -> Receipt:
        """What it has cost until now."""
        return receipt_of(self.record, self.attempts, self._compute.clock.now())

    @property
    def folder(self) -> RunFolder:
        """Its folder in the store."""
        return RunFolder(self._compute.open_store(self.record.store_url))

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The trainer's last word in the newest attempt; None before its first."""
        attempts = self.attempts
        return self.folder.heartbeat(attempts[-1].number) if attempts else None

    @property
    def metrics(self) -> list[Mapping[str, Any]]:
        """Rows of metrics.jsonl over all attempts, in the order of their steps."""
        return self.folder.metrics()

    @property
    def checkpoints(self) -> list[str]:
        """Names of its checkpoints in the store, the newest first; not all of them need be whole.

        Any of them can be given to `Compute.resume`.
        """
        return [str(name) for name in list_checkpoints(self.folder.store)]

    @property
    def done(self) -> Done | None:
        """The done marker with its summary; None while the run is not complete."""
        return self.folder.done()

    @cached_property
    def members(self) -> Mapping[str, RunFolder]:
        """The adapters of a run of several by name, each with its folder; empty for a run of one.

        Each folder is laid out like a run's own: metrics, heartbeats, done marker.
        """
        url = self.record.store_url
        names = self.folder.member_names()
        opened = self._compute.open_store
        return {name: RunFolder(opened(member_url(url, name))) for name in names}

    @property
    def finished(self) -> Mapping[str, Done]:
        """The done markers of its adapters that are finished, by member; "" in a run of one."""
        done = {name: folder.done() for name, folder in (self.members or {"": self.folder}).items()}
        return {name: marker for name, marker in done.items() if marker is not None}

    def logs(self, attempt: int | None = None) -> Iterator[str]:
        """What an attempt's machine printed, the newest one's by default. Untrusted text.

        Where its provider shows nothing any more: what its trainer said, from the store. Raises
        `UsageError` where there is no such attempt.
        """
        attempts = self.attempts
        if attempt is None and not attempts:
            return
        number = attempts[-1].number if attempt is None else attempt
        found = next((a for a in attempts if a.number == number), None)
        if found is None:
            has = f"it has {len(attempts)}" if attempts else "nothing was launched yet"
            raise UsageError(f"run {self.id} has no attempt {number}: {has}", mend="kwanzaa runs")
        yield from self._printed(found)

    def _printed(self, attempt: AttemptRecord) -> list[str]:
        try:
            provider = self._compute.provider(attempt.provider)
            printed = list(provider.logs(attempt.machine_id or attempt.name))
        except KwanzaaError:
            said = self.folder.log(attempt.number)
            if not said:
                raise
            return said
        return printed or self.folder.log(attempt.number)

    def ssh(self) -> SSHAccess | None:
        """How to log in to the newest attempt's machine; None while it cannot be reached.

        Raises `UsageError` where it has no machine, or its provider gives no way in.
        """
        attempts = self.attempts
        last = attempts[-1] if attempts else None
        if last is None or last.state is AttemptState.CLOSED:
            raise UsageError(f"run {self.id} has no machine now", mend="kwanzaa runs --open")
        provider = self._compute.provider(last.provider)
        return provider.ssh(last.machine_id) if last.machine_id else None

    # -- acting -------------------------------------------------------------------------------

    def wait(
        self, on_step: Callable[["Step"], None] = lambda _step: None, *, poll_s: float | None = None
    ) -> Receipt:
        """Watches the run to its end, relaunching it where it must be, and returns the receipt.

        Raises `LeaseLostError` where another process watches it already, `MayBeBillingError`
        where a machine's end could not be confirmed. A run that ends without an adapter is not
        an error here: look at `receipt.state`.
        """
        poll_s = self.poll_s if poll_s is None else poll_s

        def seen(step: "Step") -> None:
            on_step(step)
            self._compute.notifier.saw([step])

        self._compute.supervisor().watch(self.id, poll_s=poll_s, on_step=seen)
        learn_speed(self)
        return self.receipt

    def see_through(
        self, on_step: Callable[["Step"], None] = lambda _step: None, *, poll_s: float | None = None
    ) -> Receipt:
        """Like `wait`, but where another process watches the run, looks on instead of raising.

        Takes over as soon as that watcher is gone.
        """
        poll_s = self.poll_s if poll_s is None else poll_s
        while True:
            try:
                return self.wait(on_step, poll_s=poll_s)
            except LeaseLostError:
                while self._is_watched_elsewhere():
                    on_step(self.look())
                    self._compute.clock.sleep(poll_s)

    def _is_watched_elsewhere(self) -> bool:
        self._compute.forget_dead_watcher(self.id)
        watched = self._compute.ledger.watcher(self.id) is not None
        return watched and self.state is RunState.RUNNING

    def look(self) -> "Step":
        """Where the run stands, without a lease: reads ledger and store, asks no provider."""
        from kwanzaa_compute.runs.step import Step

        record, attempts = self.record, self.attempts
        last = attempts[-1] if attempts else None
        try:
            beat = self.folder.heartbeat(last.number) if last else None
        except StoreError as error:
            return Step(record, last, None, error.message)
        return Step(record, last, None, record.reason, beat)

    def silent_s(self, step: "Step") -> float:
        """For how long the trainer that `step` saw is overdue with a heartbeat; 0 if it is not."""
        from kwanzaa_compute.compute.notifying import stalled_s

        return stalled_s(step, self._compute.clock.now())

    @property
    def poll_s(self) -> float:
        """Seconds between two looks at this run, where nobody says otherwise."""
        providers = self._compute.catalogue.providers
        near = all(
            offer.own_machine
            or (offer.provider in providers and providers[offer.provider].simulated)
            for offer in load_offers(self.record.candidates)
        )
        return POLL_OWN_MACHINE_S if near else POLL_S

    def launch(self) -> "Step":
        """One step only: launches the first machine, then leaves the run to other watchers."""
        step = self._compute.supervisor().step_once(self.id)
        self._compute.notifier.saw([step])
        return step

    def stop(self) -> None:
        """Asks for a checkpoint, then for the machine's end. A watcher carries it out."""
        self._compute.ledger.set_wish(self.id, Wish.STOP)

    def terminate(self) -> None:
        """Asks for the machine's end now. A watcher carries it out."""
        self._compute.ledger.set_wish(self.id, Wish.TERMINATE)

    def download(self, target: Path | str | None = None) -> Path:
        """Copies the finished adapter here, every file checked against its sha256.

        `target` defaults to the config's output folder. Of a run of several adapters those that
        are finished are copied, each into a folder of its name. Raises `RunError` where nothing is
        complete, `StoreError` where a file is damaged; what was there before then stays.
        """
        folder = Path(target or self.record.output_dir).expanduser().absolute()
        finished = self.finished
        if not finished:
            raise RunError(
                f"run {self.id} has no finished adapter yet", mend=f"kwanzaa monitor {self.id}"
            )
        for name, done in finished.items():
            self._fetch(self.members.get(name, self.folder), done, folder / name)
        return folder

    def _fetch(self, source: RunFolder, done: Done, folder: Path) -> None:
        for name, sha256 in done.files.items():
            path = inside(folder, name)
            if source.store.download(f"{ADAPTER}/{name}", path) != sha256:
                path.unlink(missing_ok=True)
                raise StoreError(
                    f"{name} of run {self.id} is damaged in the store",
                    mend="train it again: kwanzaa train CONFIG",
                )

    def remember_speed(self, receipt: SpeedReceipt) -> None:
        """Keeps how fast this run was, for the plans of later ones."""
        self._compute.ledger.add_speed(self.id, receipt)

    def ensure_ended(self) -> None:
        """Raises where anything of this run is not proven ended."""
        still = [a for a in self.attempts if a.state is not AttemptState.CLOSED]
        if still:
            raise KwanzaaError(f"attempt {still[0].name} of run {self.id} has not ended")
