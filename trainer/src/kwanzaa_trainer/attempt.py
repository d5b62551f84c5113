"""One attempt from its first breath to its exit code: what it leaves in the store when it ends."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import KwanzaaError, RunError, StoreError, StoreExistsError, UsageError
from kwanzaa_compute.store.folder import Failure, RunFolder
from kwanzaa_compute.store.objects import Store
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.launching import require_one_machine
from kwanzaa_trainer.members import (
    EXIT_APART,
    ApartError,
    MembersFailedError,
    train_members,
)
from kwanzaa_trainer.preflight import BadMachineError, preflight
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop, StoppedError

if TYPE_CHECKING:
    from kwanzaa_trainer.loading import Load

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_STOPPED = 75


def run_attempt(
    store: Store, settings: Settings, clock: Clock, stop: Stop, load: "Load | None" = None
) -> int:
    """Trains the run in `store`; returns the exit code. `load` is for one that shares its base.

    0: the done marker is there. 75: stopped after a checkpoint, as asked. 1: failed. Unless it is
    0, `failure.json` says why, where the store still takes it. A run that is done is left alone.
    76: it cannot share its base, and is left as it is.
    """
    folder = RunFolder(store)
    team = settings.team
    journal = Journal(
        folder, settings.attempt, settings.heartbeat_s, clock, team.leads, settings.name
    )
    try:
        return _run(folder, settings, journal, clock, stop, load)
    except ApartError as error:
        journal.say("apart", f"it is trained by itself: {error}", level="warning")
        return EXIT_APART
    except Exception as error:  # noqa: BLE001 -- whatever it was, it must be said in the store
        return _fail(folder, journal, failure_of(settings.attempt, error))
    finally:
        journal.close()


def failure_of(attempt: int, error: Exception) -> Failure:
    """What to tell the watcher. Retryable is what another machine or another hour may mend."""
    if isinstance(error, MembersFailedError):
        return error.failure
    if isinstance(error, StoppedError):
        return Failure(attempt, f"stopped: {error}", retryable=True, stopped=True)
    if isinstance(error, KwanzaaError):
        lasting = isinstance(error, UsageError | RunError)
        bad = isinstance(error, BadMachineError)
        return Failure(
            attempt, error.message, retryable=not lasting, mend=error.mend, bad_machine=bad
        )
    if type(error).__name__ in {"OutOfMemoryError", "ShortOfMemoryError"}:
        return Failure(
            attempt,
            "the GPU's memory is too small for this run",
            retryable=False,
            mend="lower training.per_device_train_batch_size or data.max_seq_length,"
            " turn training.gradient_checkpointing on, or take a larger GPU",
        )
    return Failure(attempt, f"{type(error).__name__}: {error}", retryable=True)


def _run(  # noqa: PLR0917 -- what an attempt consists of
    folder: RunFolder,
    settings: Settings,
    journal: Journal,
    clock: Clock,
    stop: Stop,
    load: "Load | None",
) -> int:
    if folder.done() is not None:
        sys.stderr.write("this run is done already; nothing to do\n")
        return EXIT_DONE
    with scratch(settings) as work:
        team = settings.team
        if settings.expected is not None and team.is_first_here:
            preflight(settings.expected, folder, settings.attempt, work, machine=team.machine)
        if names := folder.member_names():
            _require_one_process(settings)
            require_one_machine()
            done = train_members(folder, names, settings, work, journal, clock, stop)
        else:
            # Imported late: what is done needs no torch, and whatever breaks in it is told as well.
            from kwanzaa_trainer.loading import load as load_alone
            from kwanzaa_trainer.site import Site
            from kwanzaa_trainer.train import train

            done = train(Site(folder, settings, work, journal, clock, stop), load or load_alone)
    journal.say("finished", f"finished at step {done.step}", step=done.step)
    journal.flush()
    if not settings.team.leads:
        return EXIT_DONE
    try:
        folder.put_done(done)
    except StoreExistsError:
        journal.say("done_already", "another attempt finished first", level="warning")
    return EXIT_DONE


def _require_one_process(settings: Settings) -> None:
    if settings.team.size > 1:
        raise UsageError(
            "a run of several adapters starts one process a GPU by itself",
            mend="start it without torchrun",
        )


def _fail(folder: RunFolder, journal: Journal, failure: Failure) -> int:
    level = "info" if failure.stopped else "error"
    mend = f" -> {failure.mend}" if failure.mend else ""
    journal.say("ended", f"{failure.message}{mend}", level=level, retryable=failure.retryable)
    try:
        folder.put_failure(failure)
    except StoreError as error:
        journal.say("failure_not_stored", str(error), level="error")
    return EXIT_STOPPED if failure.stopped else EXIT_FAILED


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """Where an attempt works: the folder that it was given, or one that goes when it ends."""
    if settings.work is not None:
        team = settings.team
        work = settings.work if team.size == 1 else settings.work / f"process-{team.rank}"
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="kwanzaa-") as folder:
        yield Path(folder)
