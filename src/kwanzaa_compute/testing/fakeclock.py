"""Virtual time: hours pass in microseconds, in the same order every time."""

import heapq
from collections.abc import Callable

from kwanzaa_compute.clock import Clock

START = 1_767_225_600.0
"""When virtual time begins: 2026-01-01T00:00:00Z, in seconds since the epoch."""


class FakeClock:
    """A clock that moves only when somebody sleeps, and does what was due on the way.

    `at` is the present, in seconds since the epoch. Sleeping inside something that is being done
    is allowed: others then act in between, as they would in several processes.
    """

    def __init__(self, start: float = START) -> None:
        """Stands at `start` until somebody sleeps."""
        self.at = start
        self.start = start
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since this clock began."""
        return self.at - self.start

    def call_at(self, at: float, what: Callable[[], None]) -> None:
        """Does something at a time; what is due at the same time is done in the order of asking."""
        self._count += 1
        heapq.heappush(self._due, (at, self._count, what))

    def run_until(self, until: float) -> None:
        """Lets time pass, and does what falls due."""
        due = self._due
        while due and due[0][0] <= until:
            at, _, what = heapq.heappop(due)
            self.at = max(self.at, at)
            what()
        self.at = max(self.at, until)

    def sleep(self, seconds: float) -> None:
        """Lets so many seconds pass."""
        self.run_until(self.at + seconds)

    def clock(self, *, skew_s: float = 0.0) -> Clock:
        """This time as the library's `Clock`, for a watcher whose wall clock is off by `skew_s`."""
        return Clock(
            now=lambda: self.at + skew_s,
            monotonic=lambda: self.at - self.start,
            sleep=self.sleep,
        )
