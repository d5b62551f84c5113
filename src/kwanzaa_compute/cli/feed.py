"""Work in a thread of its own, so that Ctrl-C is heard at once whatever the network does.

A call to a provider or a store may take a minute. The main thread never makes one while it shows
a run: it takes what the worker has seen, and draws.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from kwanzaa_compute.clock import Clock

T = TypeVar("T")
Work = Callable[[Callable[[T], None], Clock], None]
"""Is given where to put what it sees, and a clock whose sleep ends when it shall leave."""


class LeftError(BaseException):
    """The worker was asked to leave. No `Exception`: nothing on its way may take it for one."""


class Feed(Generic[T]):
    """What one worker sees, until its work is done or it is asked to leave."""

    def __init__(self, work: Work[T], clock: Clock) -> None:
        """Starts at once. SQLite wants `work` to open its own `Compute`."""
        self._seen: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._leave = threading.Event()
        self._error: BaseException | None = None
        self._work = work
        self._clock = replace(clock, sleep=self._sleep)
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def seen(self, tick_s: float) -> Iterator[T | None]:
        """What the worker puts, and None whenever `tick_s` seconds pass without anything.

        Ends with the work, and raises what the work raised.
        """
        while True:
            try:
                item = self._seen.get(timeout=tick_s)
            except queue.Empty:
                yield None
                continue
            if item is None:
                break
            yield item
        if self._error is not None and not isinstance(self._error, LeftError):
            raise self._error

    def leave(self, timeout_s: float) -> bool:
        """Asks the worker to leave at its next pause; True once it has."""
        self._leave.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _sleep(self, seconds: float) -> None:
        if self._leave.wait(seconds):
            raise LeftError

    def _put(self, item: T) -> None:
        self._seen.put(item)
        if self._leave.is_set():
            raise LeftError

    def _run(self) -> None:
        try:
            self._work(self._put, self._clock)
        except BaseException as error:  # noqa: BLE001 -- carried over to the main thread
            self._error = error
        finally:
            self._seen.put(None)
