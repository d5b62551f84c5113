"""`stop`, `terminate` and `watch`: ending machines, and keeping an eye on all of them."""

from collections.abc import Callable, Sequence
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.cleaning import end_all_strays
from kwanzaa_compute.cli.documents import look_document, receipt_document
from kwanzaa_compute.cli.feed import Feed
from kwanzaa_compute.cli.following import leave, see_through
from kwanzaa_compute.cli.live import TICK_S, line
from kwanzaa_compute.cli.look import Look, look_at
from kwanzaa_compute.cli.options import AsJson, RunId, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import clean, hours, usd
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Compute, Run
from kwanzaa_compute.errors import EXIT_OK, MayBeBillingError, UsageError
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.runs.supervisor import UNCONFIRMED_S, unconfirmed

_IDLE_S = 15.0

All = Annotated[bool, Parameter(name="--all", negative="", help="All of your runs that go on.")]
Once = Annotated[
    bool, Parameter(name="--once", negative="", help="One look at each run, then leave (cron).")
]


def stop(run: RunId, /, *, as_json: AsJson = False) -> int:
    """Ask RUN's trainer for a checkpoint, then end its machine; kwanzaa resume goes on from it."""
    screen, compute = Screen(as_json=as_json), open_compute()
    found = compute.run(run)
    return _end(screen, compute, [found], Run.stop)


def terminate(
    run: Annotated[str | None, Parameter(help="A run, or the beginning of its name.")] = None,
    /,
    *,
    everything: All = False,
    as_json: AsJson = False,
) -> int:
    """End RUN's machine now, or with --all every machine of yours, until its absence is proven."""
    screen, compute = Screen(as_json=as_json), open_compute()
    if (run is None) != everything:
        raise UsageError("name one run, or say --all", mend="kwanzaa runs --open")
    if run is not None:
        return _end(screen, compute, [compute.run(run)], Run.terminate)
    try:
        code = _end(screen, compute, [r for r in compute.runs() if _is_open(r)], Run.terminate)
    finally:
        strays = end_all_strays(screen, compute)  # whatever became of the runs
    for stray in strays:
        screen.talk(f"{clean(stray.machine_id)}: ended, and confirmed absent")
    return code


def _end(
    screen: Screen, compute: Compute, found: Sequence[Run], wish: Callable[[Run], None]
) -> int:
    """Sets the wish on all runs first, then sees each of them ended."""
    going = [run for run in found if _is_open(run)]
    for run in going:
        wish(run)
    if len(going) > 1:
        compute.watch_once()  # no machine goes on billing while another one's end is waited for
    not_confirmed: MayBeBillingError | None = None
    for number, run in enumerate(going, start=1):
        screen.talk(f"ending {run.id}", "bold")
        others = [other.id for other in going[number:]]
        try:
            left = see_through(screen, compute, run, known_events=len(run.events), beside=others)
        except MayBeBillingError as error:
            # The other machines are ended first; this one is what the last line is about.
            not_confirmed = error
            continue
        if left is not None:
            return left
    if screen.as_json:
        receipts = [receipt_document(run.receipt) for run in found]
        screen.json({"event": "end", "ended": receipts})
    else:
        for run in found:
            _say_ended(screen, run, was_open=run in going)
        if not found:
            screen.talk("nothing is running")
    if not_confirmed is not None:
        raise not_confirmed
    return EXIT_OK


def _say_ended(screen: Screen, run: Run, *, was_open: bool) -> None:
    receipt = run.receipt
    if receipt.state is RunState.RUNNING:
        screen.write(f"{run.id}: not confirmed ended", "red")
        return
    words = f"{run.id}: {receipt.state}" if was_open else f"{run.id} had ended already"
    machines = ", ".join(f"{entry.provider} {entry.gpu}" for entry in receipt.lines) or "no machine"
    screen.write(f"{words} ({machines}), {hours(receipt.hours)}, {usd(receipt.usd)}")


def _is_open(run: Run) -> bool:
    return run.state is RunState.RUNNING


def watch(*, once: Once = False, as_json: AsJson = False) -> int:
    """See every open run through: relaunch what lost its machine, end what is done or over its cap.

    Several watchers may be at work at once, on several machines: leases see to it that each run
    has one. Without --once it goes on until you leave, and takes up new runs as they come.
    """
    screen, compute = Screen(as_json=as_json), open_compute()
    told = _Told(screen, compute)
    if once:
        for step in compute.watch_once():
            told.tell(look_at(compute.run(step.run.id), step))
        if not told.count:
            screen.talk("no open run to watch")
        return told.exit_code
    feed = Feed(_sweeping(compute), compute.clock)
    try:
        screen.talk("watching all open runs; Ctrl-C leaves")
        for seen in feed.seen(TICK_S):
            if seen is not None:
                told.tell(seen)
    except KeyboardInterrupt:
        open_runs = [run.id for run in compute.runs() if _is_open(run)]
        return leave(screen, compute, feed, open_runs)
    return told.exit_code


def _sweeping(compute: Compute) -> Callable[[Callable[[Look], None], Clock], None]:
    def work(put: Callable[[Look], None], clock: Clock) -> None:
        mine = compute.beside(clock)
        try:
            while True:
                steps = mine.watch()
                runs = [mine.run(step.run.id) for step in steps]
                for run, step in zip(runs, steps, strict=True):
                    put(look_at(run, step))
                clock.sleep(min((run.poll_s for run in runs), default=_IDLE_S))
        finally:
            mine.stop_watching()

    return work


class _Told:
    """What has been said of each run, so that only news is said."""

    def __init__(self, screen: Screen, compute: Compute) -> None:
        self.count = 0
        self.exit_code = EXIT_OK
        self._screen = screen
        self._compute = compute
        self._last: dict[str, tuple[object, ...]] = {}
        self._shouted: set[str] = set()

    def tell(self, look: Look) -> None:
        """One line for a run that turned to something else; in JSON one object."""
        self.count += 1
        self._look_for_trouble(look)
        content = (look.state, look.attempt, look.doing, look.reason if look.is_final else "")
        if self._last.get(look.run_id) == content:
            return
        self._last[look.run_id] = content
        if self._screen.as_json:
            self._screen.json({"event": "step", **look_document(look)})
        elif look.is_final:
            self._screen.write(f"{look.run_id}: {look.state}: {look.reason}, {usd(look.usd)}")
            if look.state is RunState.DONE:
                self._screen.talk(f"  -> kwanzaa download {look.run_id}")
        else:
            self._screen.write(f"{look.run_id}: {line(look)}")

    def _look_for_trouble(self, look: Look) -> None:
        """A machine whose end stays unconfirmed is shouted about, and decides the exit code."""
        if look.ending_at is None or look.run_id in self._shouted:
            return
        waited_s = self._compute.clock.now() - look.ending_at
        if waited_s < UNCONFIRMED_S:
            return
        self._shouted.add(look.run_id)
        self.exit_code = MayBeBillingError.exit_code
        if self._screen.as_json:
            self._screen.json({"event": "unconfirmed", **look_document(look)})
        attempt = self._compute.run(look.run_id).attempts[-1]
        error = unconfirmed(attempt, self._compute.catalogue.find(attempt.provider))
        self._screen.talk(f"{look.run_id}: {error}", "bold red")
