"""One watched run on a simulated provider, whose training is a few heartbeats: for tests of faults.

Everything is real but the training: the ledger, the watcher, the driver and its wire, the
machine's process, the boot script and the code that it fetches. A test that wants a model trained
takes `endtoend`; this one costs a fraction of a second of a processor.

    with watched_run(provider, tmp_path, offers) as watched:
        server.interrupt("POST", "/v2/pods", Reply(500))
        assert watched.finish().state is RunState.DONE
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import KwanzaaError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptRecord, RunRecord, RunState
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supervisor import Supervisor
from kwanzaa_compute.store import RunFolder, open_store
from kwanzaa_compute.store.folder import CODE
from kwanzaa_compute.testing.samples import sample_run

RUN_ID = "r1"
WORK = "input/work.txt"
TRAINER = f"""
import os, sys, time
from kwanzaa_compute.store import Done, Heartbeat, RunFolder, open_store
store = open_store(sys.argv[2])
folder, attempt = RunFolder(store), int(os.environ["KWANZAA_ATTEMPT"])
if folder.done() is not None:
    sys.exit(0)
beats = int(store.get("{WORK}"))
for beat in range(1, beats + 1):
    folder.put_heartbeat(Heartbeat(beat, "train", attempt, step=beat, total_steps=beats))
    print("beat", beat, flush=True)
    time.sleep(0.1)
folder.put_done(Done(attempt, beats, {{}}))
"""


@dataclass(slots=True)
class WatchedRun:
    """A run that is launched and seen through by `steps` or `finish`."""

    supervisor: Supervisor
    ledger: Ledger
    folder: RunFolder
    clock: Clock = field(default_factory=Clock)
    pause_s: float = 0.05
    patience_s: float = 60.0

    def step(self) -> Step:
        """One look, and the move that follows from it."""
        return self.supervisor.step_once(RUN_ID)

    def until(self, state: str) -> AttemptRecord:
        """Watches until the newest attempt is in a state ("live", say), and returns it."""
        for step in self._steps():
            if step.attempt is not None and step.attempt.state == state:
                return step.attempt
        raise AssertionError("unreachable")

    def finish(self) -> RunRecord:
        """Watches until the run is final, and returns it."""
        for step in self._steps():
            if step.run.state is not RunState.RUNNING:
                return step.run
        raise AssertionError("unreachable")

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The run's attempts, oldest first."""
        return self.ledger.attempts(RUN_ID)

    @property
    def history(self) -> str:
        """What happened, a line an event."""
        return "\n".join(f"{e.kind}: {e.message}" for e in self.ledger.events(RUN_ID))

    def _steps(self) -> Iterator[Step]:
        last = self.clock.monotonic() + self.patience_s
        while self.clock.monotonic() < last:
            yield self.step()
            self.clock.sleep(self.pause_s)
        pytest.fail(f"not within {self.patience_s:.0f} s:\n{self.history}")


@contextmanager
def watched_run(
    provider: Provider,
    folder: Path,
    offers: Sequence[Offer],
    *,
    beats: int = 3,
    environment: Mapping[str, str] | None = None,
) -> Iterator[WatchedRun]:
    """A run of so many heartbeats over these offers, best first; not yet launched."""
    clock = Clock()
    url = (folder / "store").as_uri()
    store = open_store(url)
    code = _code()
    store.put(f"{CODE}/{hashlib.sha256(code).hexdigest()}.zip", code)
    store.put(WORK, str(beats).encode())
    ledger = Ledger(folder / "ledger.sqlite", clock)

    def of(name: str) -> Provider:
        if name != provider.name:
            raise KwanzaaError(f"there is no provider {name}")
        return provider

    try:
        run = sample_run(
            *offers, store_url=url, created_at=clock.now(), max_usd=Decimal(50), max_hours=1.0
        )
        ledger.add_run(run)
        supervisor = Supervisor(
            ledger, of, open_store, clock, holder="test", environment=environment or {}
        )
        yield WatchedRun(supervisor, ledger, RunFolder(store))
    finally:
        ledger.close()


def _code() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("kwanzaa_trainer/__init__.py", "")
        archive.writestr("kwanzaa_trainer/__main__.py", TRAINER)
        archive.writestr("kwanzaa_trainer/requirements.lock", "")
    return buffer.getvalue()
