"""`Run`: one run as its user sees it. It holds no state of its own: ledger and store have it."""

from collections.abc import Callable, Iterator, Mapping
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
from kwanzaa_compute.store import Done, Heartbeat, RunFolder, open_store
from kwanzaa_compute.store.folder import ADAPTER
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
        return RunFolder(open_store(self.record.store_url))

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
    def done(self) -> Done | None:
        """The done marker with its summary; None while the run is not complete."""
        return self.folder.done()

    def logs(self) -> Iterator[str]:
        """What the newest attempt's machine printed, line by line. Untrusted text."""
        attempts = self.attempts
        if not attempts:
            return
        last = attempts[-1]
        provider = self._compute.provider(last.provider)
        machine_id = last.machine_id or last.name
        yield from provider.logs(machine_id)

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
        self._compute.supervisor().watch(self.id, poll_s=poll_s, on_step=on_step)
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
        return self._compute.supervisor().step_once(self.id)

    def stop(self) -> None:
        """Asks for a checkpoint, then for the machine's end. A watcher carries it out."""
        self._compute.ledger.set_wish(self.id, Wish.STOP)

    def terminate(self) -> None:
        """Asks for the machine's end now. A watcher carries it out."""
        self._compute.ledger.set_wish(self.id, Wish.TERMINATE)

    def download(self, target: Path | str | None = None) -> Path:
        """Copies the finished adapter here, every file checked against its sha256.

        `target` defaults to the config's output folder. Raises `RunError` where the run is not
        complete, `StoreError` where a file is damaged; what was there before then stays.
        """
        done = self.done
        if done is None:
            raise RunError(
                f"run {self.id} has no finished adapter yet", mend=f"kwanzaa monitor {self.id}"
            )
        folder = Path(target or self.record.output_dir).expanduser().absolute()
        store = self.folder.store
        for name, sha256 in done.files.items():
            path = inside(folder, name)
            if store.download(f"{ADAPTER}/{name}", path) != sha256:
                path.unlink(missing_ok=True)
                raise StoreError(
                    f"{name} of run {self.id} is damaged in the store",
                    mend=f"kwanzaa resume {self.id} --from its newest checkpoint",
                )
        return folder

    def remember_speed(self, receipt: SpeedReceipt) -> None:
        """Keeps how fast this run was, for the plans of later ones."""
        self._compute.ledger.add_speed(self.id, receipt)

    def ensure_ended(self) -> None:
        """Raises where anything of this run is not proven ended."""
        still = [a for a in self.attempts if a.state is not AttemptState.CLOSED]
        if still:
            raise KwanzaaError(f"attempt {still[0].name} of run {self.id} has not ended")
