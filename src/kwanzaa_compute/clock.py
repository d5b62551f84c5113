"""The only place where time is read: everything else is handed a `Clock`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time, monotonic time and sleep, as three functions that a test can replace.

    `now` returns seconds since the epoch (for records that other processes read), `monotonic`
    seconds from an arbitrary start (for durations inside one process).
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def iso(seconds: float) -> str:
    """Seconds since the epoch as an ISO 8601 UTC time, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
