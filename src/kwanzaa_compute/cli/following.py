"""Following a run to its end, with the view that suits whoever looks: one path for all commands."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kwanzaa_compute.cli.documents import end_document
from kwanzaa_compute.cli.feed import Feed
from kwanzaa_compute.cli.live import TICK_S, view_for
from kwanzaa_compute.cli.look import Look, look_at
from kwanzaa_compute.cli.run_view import say_what_goes_on, show_end
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Compute, Run
from kwanzaa_compute.errors import EXIT_INTERRUPTED
from kwanzaa_compute.runs.records import RunState

_PATIENCE_S = 10.0
"""How long Ctrl-C waits for the step in hand, so that the next watcher finds all in order."""
_LOOK_S = 1.0
_LOOK_FAR_S = 5.0


def see_through(
    screen: Screen,
    compute: Compute,
    run: Run,
    *,
    known_events: int = 0,
    beside: Sequence[str] = (),
) -> int | None:
    """Watches the run to its end, launching and relaunching as it must.

    Returns the exit code if the user leaves before the end, else None. Whoever leaves is told of
    the runs `beside` as well.
    """

    def work(put: Callable[[Look], None], clock: Clock) -> None:
        mine = compute.beside(clock).run(run.id)
        mine.see_through(lambda step: put(look_at(mine, step)))

    return _show(screen, compute, [run.id, *beside], work, known_events)


def look_on(screen: Screen, compute: Compute, run: Run) -> int | None:
    """Shows the run until it ends, without touching it."""

    def work(put: Callable[[Look], None], clock: Clock) -> None:
        mine = compute.beside(clock).run(run.id)
        pause_s = _LOOK_S if mine.record.store_url.startswith("file:") else _LOOK_FAR_S
        while True:
            look = look_at(mine, mine.look())
            put(look)
            if look.is_final:
                return
            clock.sleep(pause_s)

    return _show(screen, compute, [run.id], work, len(run.events))


def _show(
    screen: Screen,
    compute: Compute,
    run_ids: Sequence[str],
    work: Callable[[Callable[[Look], None], Clock], None],
    known_events: int,
) -> int | None:
    feed = Feed(work, compute.clock)
    try:
        with view_for(screen, compute.clock.monotonic, known_events=known_events) as view:
            for look in feed.seen(TICK_S):
                view.show(look)
    except KeyboardInterrupt:
        return leave(screen, compute, feed, run_ids)
    return None


def leave(screen: Screen, compute: Compute, feed: Feed[Look], run_ids: Sequence[str]) -> int:
    """After Ctrl-C: lets the step in hand end, and says what goes on. A second one leaves now."""
    at_once = False
    try:
        screen.talk("\nleaving; Ctrl-C again leaves at once")
        at_once = not feed.leave(_PATIENCE_S)
    except KeyboardInterrupt:
        at_once = True
    say_what_goes_on(screen, compute, run_ids)
    if screen.as_json:
        screen.json({"event": "left", "runs": list(run_ids), "exit": EXIT_INTERRUPTED})
    if at_once:
        # The worker may hang in a call to a provider; Python would wait for it, the user does not.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
    return EXIT_INTERRUPTED


def finish(screen: Screen, run: Run, *, target: Path | None = None, download: bool = True) -> int:
    """Fetches the adapter, if there is one, and shows how the run ended; returns its exit code."""
    receipt = run.receipt
    adapter = None
    if receipt.state is RunState.DONE:
        adapter = str(run.download(target)) if download else run.record.output_dir
    if screen.as_json:
        screen.json({"event": "end", **end_document(run, receipt, adapter)})
    else:
        show_end(screen, run, receipt, adapter)
    return receipt.state.exit_code
