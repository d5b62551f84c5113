"""How a run is asked to stop: a signal, or a wish in the store."""

import math
from dataclasses import dataclass, field

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.folder import RunFolder


class StoppedError(Exception):
    """The run was asked to stop, and did so after a checkpoint. Its text says who asked."""


@dataclass(slots=True)
class Stop:
    """Whether somebody asked this attempt to stop, and why. Once asked, always asked."""

    reason: str = ""

    def ask(self, reason: str) -> None:
        """Asks; safe inside a signal handler."""
        self.reason = self.reason or reason


@dataclass(slots=True)
class StopWatch:
    """Looks for `stop.json` in the store, at most once an interval."""

    stop: Stop
    folder: RunFolder
    attempt: int
    interval_s: float
    clock: Clock
    _looked_at: float = field(default=-math.inf)

    def reason(self) -> str:
        """Why to stop; "" where nobody asked. A store that fails has not asked."""
        now = self.clock.monotonic()
        if not self.stop.reason and now - self._looked_at >= self.interval_s:
            self._looked_at = now
            self._look()
        return self.stop.reason

    def _look(self) -> None:
        try:
            request = self.folder.stop_request()
        except StoreError:
            return
        if request and request.attempt == self.attempt:
            self.stop.ask(request.reason or "asked through the store")
