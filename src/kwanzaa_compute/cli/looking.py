"""`runs`, `show`, `monitor` and `logs`: looking at runs without touching them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.documents import (
    attempt_document,
    event_document,
    look_document,
    receipt_document,
    run_document,
    where_document,
)
from kwanzaa_compute.cli.following import finish, look_on
from kwanzaa_compute.cli.look import Look, look_at, where
from kwanzaa_compute.cli.options import AsJson, RunId, open_compute
from kwanzaa_compute.cli.run_view import checkpoints_of, show_run, show_runs
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import clean, duration
from kwanzaa_compute.compute import Compute, Run
from kwanzaa_compute.errors import EXIT_OK, StoreError
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.store import Heartbeat, RunFolder

_NEWEST = 20
_LOG_PAUSE_S = 1.0

Everything = Annotated[bool, Parameter(name="--all", negative="", help="Not only the newest 20.")]
OnlyOpen = Annotated[bool, Parameter(name="--open", negative="", help="Only runs that go on.")]
OneAttempt = Annotated[
    int | None, Parameter(name="--attempt", help="Only this attempt, counted from 1.")
]
Follow = Annotated[
    bool, Parameter(name=["--follow", "-f"], negative="", help="Go on until the run ends.")
]


def runs(
    *, everything: Everything = False, only_open: OnlyOpen = False, as_json: AsJson = False
) -> int:
    """Your runs, newest first: where they run, how far they are, and what they cost now."""
    screen, compute = Screen(as_json=as_json), open_compute()
    found = [run for run in compute.runs() if not only_open or run.state is RunState.RUNNING]
    shown = found if everything else found[:_NEWEST]
    looks = list(zip(shown, _looks(shown), strict=True))
    if as_json:
        screen.json({"runs": [_row(run, look) for run, look in looks], "count": len(found)})
    elif looks:
        show_runs(screen, looks)
        if len(shown) < len(found):
            screen.talk(f"... and {len(found) - len(shown)} older ones (--all shows them)")
    else:
        screen.talk("there are no runs yet: kwanzaa train CONFIG starts one")
    return EXIT_OK


def _row(run: Run, look: Look) -> dict[str, object]:
    attempts = run.attempts
    last = attempts[-1] if attempts else None
    return {**run_document(run.record), **look_document(look), "where": where_document(last)}


def _looks(found: list[Run]) -> list[Look]:
    """One look at each run; their stores are asked side by side."""
    newest = [(run.folder, run.attempts[-1].number if run.attempts else 0) for run in found]
    with ThreadPoolExecutor(max_workers=8) as pool:
        beats = list(pool.map(lambda pair: _heartbeat(*pair), newest))
    steps = []
    for run, beat in zip(found, beats, strict=True):
        record, attempts = run.record, run.attempts
        steps.append(Step(record, attempts[-1] if attempts else None, None, record.reason, beat))
    return [look_at(run, step) for run, step in zip(found, steps, strict=True)]


def _heartbeat(folder: RunFolder, attempt: int) -> Heartbeat | None:
    try:
        return folder.heartbeat(attempt) if attempt else None
    except StoreError:
        return None  # the table is worth having without it


def show(run: RunId, /, *, as_json: AsJson = False) -> int:
    """Everything that is known about RUN: attempts, receipt and history."""
    screen, found = Screen(as_json=as_json), open_compute().run(run)
    if as_json:
        screen.json(
            {
                **run_document(found.record),
                "attempts": [attempt_document(attempt) for attempt in found.attempts],
                "receipt": receipt_document(found.receipt),
                "events": [event_document(event) for event in found.events],
                "checkpoints": checkpoints_of(found),
            }
        )
    else:
        show_run(screen, found)
    return EXIT_OK


def monitor(run: RunId, /, *, as_json: AsJson = False) -> int:
    """Look at RUN live: phase, step, loss, tokens/s, GPU memory, dollars so far and to go.

    Looking touches nothing: leaving leaves the run alone. A run that has ended shows its summary.
    """
    screen, compute = Screen(as_json=as_json), open_compute()
    found = compute.run(run)
    if found.state is RunState.RUNNING:
        screen.talk(f"run {found.id}", "bold")
        left = look_on(screen, compute, found)
        if left is not None:
            return left
    return finish(screen, found, download=False)


def logs(
    run: RunId,
    /,
    *,
    attempt: OneAttempt = None,
    follow: Follow = False,
    as_json: AsJson = False,
) -> int:
    """What the machines of RUN printed, attempt by attempt; with --attempt only one of them."""
    screen, compute = Screen(as_json=as_json), open_compute()
    found = compute.run(run)
    count, told = 0, 0
    for number, text in _log_lines(compute, found, attempt, follow=follow):
        count += 1
        if as_json:
            screen.json({"event": "line", "attempt": number, "text": clean(text)})
            continue
        if number != told and attempt is None:
            screen.talk(f"attempt {number}: {where(found.attempts[number - 1])}", "dim")
        told = number
        screen.raw(text)
    if not count:
        screen.talk(f"{found.id} has printed nothing yet")
    if found.state is RunState.RUNNING and (silent_s := found.silent_s(found.look())):
        text = f"attempt {len(found.attempts)} has been SILENT for {duration(silent_s)}"
        screen.talk(text, "yellow")
    return EXIT_OK


def _log_lines(
    compute: Compute, run: Run, attempt: int | None, *, follow: bool
) -> Iterator[tuple[int, str]]:
    """Lines with the number of their attempt; the last attempt's go on while the run does."""
    number, told = 1 if attempt is None else attempt, 0
    while True:
        is_final = run.state is not RunState.RUNNING
        newest = len(run.attempts)
        if number <= newest or attempt is not None:
            for text in islice(run.logs(number), told, None):
                told += 1
                yield number, text
        if number < newest and attempt is None:
            number, told = number + 1, 0
        elif is_final or not follow or (attempt is not None and number < newest):
            return
        else:
            compute.clock.sleep(_LOG_PAUSE_S)
