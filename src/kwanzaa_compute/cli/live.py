"""Three ways to show a run while it runs: a bar for a terminal, plain lines, JSON for programs."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from kwanzaa_compute.cli.documents import look_document
from kwanzaa_compute.cli.look import Look
from kwanzaa_compute.cli.screen import Screen, console
from kwanzaa_compute.cli.words import clean, duration, figure, usd
from kwanzaa_compute.runs.records import Event

if TYPE_CHECKING:
    from rich.console import RenderableType

TICK_S = 0.25
_LINE_EVERY_S = 5.0
_LONGEST_LINE_PAUSE_S = 60.0
_NOTABLE = frozenset(
    {
        "adopt",
        "ask to stop",
        "double",
        "fail",
        "halt",
        "launch",
        "provider",
        "relaunch",
        "stall",
        "store",
        "terminate",
        "trouble",
    }
)
"""Kinds of events that people want to hear of; the others are in `kwanzaa show`."""


class View(Protocol):
    """Shows one run. Used as a context, so that the terminal is left in order."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, look: Look | None) -> None:
        """The newest look; None when only time has passed."""


def view_for(screen: Screen, now: Callable[[], float], *, known_events: int = 0) -> View:
    """The view that suits whoever reads: `now` is a monotonic clock.

    The first `known_events` events of the run are old news.
    """
    if screen.as_json:
        return JsonView(screen)
    news = News(known_events)
    return BarView(news, now) if screen.is_live else LineView(screen, news, now)


class News:
    """Which events of a run have not been told yet."""

    def __init__(self, known: int) -> None:
        self._known = known
        self._last = ("", "")

    def of(self, look: Look) -> Iterator[Event]:
        """Events since the last time that are worth a line; a repeated one is told once."""
        fresh, self._known = look.events[self._known :], max(self._known, len(look.events))
        for event in fresh:
            told = (event.kind, event.message)
            if event.kind in _NOTABLE and told != self._last:
                self._last = told
                yield event


class _Quiet:
    """A view that leaves nothing behind on the terminal."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class JsonView(_Quiet):
    """One JSON object for each change."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last: object = None

    def show(self, look: Look | None) -> None:
        """Writes the look, if it says anything new."""
        if look is None:
            return
        content = (look.attempt, look.doing, look.sequence, look.state, look.silent_s > 0)
        if content != self._last:
            self._last = content
            self._screen.json({"event": "step", **look_document(look)})


class LineView(_Quiet):
    """A plain line every few seconds, and whenever the run turns to something else."""

    def __init__(self, screen: Screen, news: News, now: Callable[[], float]) -> None:
        self._screen = screen
        self._news = news
        self._now = now
        self._since = now()
        self._told_at = -_LINE_EVERY_S
        self._last: tuple[object, ...] = ()

    def show(self, look: Look | None) -> None:
        """Says what is new, and where the run stands."""
        if look is None:
            return
        passed = self._now() - self._since
        for event in self._news.of(look):
            self._screen.talk(f"{_clock(passed)}  {event.kind}: {clean(event.message)}")
        if look.is_final:
            return
        # A run of ten hours needs no line every five seconds.
        pause_s = min(max(_LINE_EVERY_S, passed / 60), _LONGEST_LINE_PAUSE_S)
        turned = (look.attempt, look.doing) != self._last[:2]
        moved = (look.attempt, look.doing, look.sequence) != self._last
        if turned or (moved and passed - self._told_at >= pause_s):
            self._last, self._told_at = (look.attempt, look.doing, look.sequence), passed
            self._screen.talk(f"{_clock(passed)}  {line(look)}")


class BarView:
    """A progress bar with what matters under it, redrawn in place."""

    def __init__(self, news: News, now: Callable[[], float]) -> None:
        import sys

        from rich.live import Live
        from rich.spinner import Spinner

        self._news = news
        self._now = now
        self._since = now()
        self._look: Look | None = None
        self._spinner = Spinner("line")
        self._live = Live(
            console=console(sys.stderr),
            get_renderable=self._draw,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, look: Look | None) -> None:
        """Takes the look; the bar itself is redrawn four times a second."""
        from rich.text import Text

        if look is None:
            return
        for event in self._news.of(look):
            self._live.console.print(Text(f"{event.kind}: {clean(event.message)}", "dim"))
        if look.attempt != (self._look.attempt if self._look else 0):
            self._since = self._now()
        self._look = look

    def _draw(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        look = self._look
        first = Table.grid(padding=(0, 2, 0, 0))
        if look is not None and look.is_training:
            bar = ProgressBar(total=look.total_steps, completed=look.step, width=36)
            left = "" if look.eta_s is None else f"{duration(look.eta_s)} left"
            steps = f"{look.step}/{look.total_steps}"
            first.add_row(Text(f"{look.doing:10}", "bold"), bar, steps, left)
        else:
            passed = duration(self._now() - self._since)
            doing = look.doing if look else "looking"
            first.add_row(self._spinner, Text(doing, "bold"), Text(passed, "dim"))
        second = Text("   ".join(figures(look)) if look else "", no_wrap=True, overflow="ellipsis")
        return Group(first, second)


def figures(look: Look) -> Iterable[str]:
    """The figures of a look, those that are known."""
    if look.silent_s:
        yield f"SILENT for {duration(look.silent_s)}"
    if look.loss is not None:
        yield f"loss {figure(look.loss)}"
    if look.eval_loss is not None:
        yield f"eval loss {figure(look.eval_loss)}"
    if look.tokens_per_second is not None:
        yield f"{look.tokens_per_second:,.0f} tokens/s"
    if look.gpu_memory_gib:
        yield f"{look.gpu_memory_gib:.1f} GiB"
    yield money(look)


def money(look: Look) -> str:
    """What the run has cost, what it costs an hour, and where it ends."""
    if not look.usd and not look.usd_per_hour:
        return "$0.00"
    parts = [usd(look.usd)]
    if look.usd_per_hour and look.eta_s is not None:
        to_go = look.usd_per_hour * int(look.eta_s) / 3600
        parts.append(f"and about {usd(to_go)} to go")
    if look.cap_usd is not None:
        parts.append(f"of at most {usd(look.cap_usd)}")
    rate = f"{usd(look.usd_per_hour)}/h" if look.usd_per_hour else ""
    return ", ".join(filter(None, (" ".join(parts), rate)))


def line(look: Look) -> str:
    """A look as one plain line."""
    steps = f" {look.step}/{look.total_steps}" if look.is_training else ""
    left = [f"{duration(look.eta_s)} left"] if look.is_training and look.eta_s is not None else []
    return "  ".join([f"{look.doing}{steps}", *figures(look), *left])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3}:{rest:02}"
