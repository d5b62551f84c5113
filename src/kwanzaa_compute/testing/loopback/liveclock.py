"""Real time with the face of `FakeClock`, so that a `SimCloud` can live in it."""

import heapq
import threading
from collections.abc import Callable

from kwanzaa_compute.clock import Clock


class LiveClock:
    """Does what falls due in a thread of its own; `lock` is held meanwhile.

    Whoever touches the cloud that lives in this time holds `lock`. To sleep lets it go, so that
    others act in between, as they would in a real cloud.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        """Begins now. `close` ends its thread."""
        self._clock = clock or Clock()
        self.start = self._clock.now()
        self.lock = threading.RLock()
        self._turn = threading.Condition(self.lock)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._open = True
        self._thread = threading.Thread(target=self._run, name="live clock", daemon=True)
        self._thread.start()

    @property
    def at(self) -> float:
        """The present, in seconds since the epoch."""
        return self._clock.now()

    @property
    def elapsed_s(self) -> float:
        """Seconds since this clock began."""
        return self.at - self.start

    def call_at(self, at: float, what: Callable[[], None]) -> None:
        """Does something at a time; what is due at the same time is done in the order of asking."""
        with self._turn:
            self._count += 1
            heapq.heappush(self._due, (at, self._count, what))
            self._turn.notify_all()

    def sleep(self, seconds: float) -> None:
        """Lets so many seconds pass, and others act."""
        until = self.at + seconds
        with self._turn:
            while self._open and (left := until - self.at) > 0:
                self._turn.wait(left)

    def close(self) -> None:
        """Ends the thread; what was not due yet is never done."""
        with self._turn:
            self._open = False
            self._turn.notify_all()
        self._thread.join()

    def _run(self) -> None:
        with self._turn:
            while self._open:
                if not self._due:
                    self._turn.wait()
                elif (left := self._due[0][0] - self.at) > 0:
                    self._turn.wait(left)
                else:
                    heapq.heappop(self._due)[2]()
