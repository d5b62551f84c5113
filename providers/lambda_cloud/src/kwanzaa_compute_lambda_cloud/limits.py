"""How often Lambda may be asked, kept by every process of this user together."""

import fcntl
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import UsageError

REQUEST = "request"
LAUNCH = "launch"


class TooBusyError(Exception):
    """The next turn is too far away to be waited for; nothing was sent."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"other calls to Lambda come first; the next turn is in {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds between two calls and between two launches; how long a call waits for its turn.

    Lambda publishes 1 and 12. A little more is kept, for calls arrive closer than they left.
    """

    request_s: float = 1.05
    launch_s: float = 12.5
    patience_s: float = 25.0

    def scaled(self, pace: str) -> "Limits":
        """The same, so many times as slow: 0.01 for a simulation. Raises `UsageError`."""
        try:
            factor = float(pace)
        except ValueError:
            factor = math.nan
        if not (math.isfinite(factor) and factor >= 0):
            raise UsageError(f"KWANZAA_LAMBDA_PACE is {pace!r}", mend="leave it unset")
        return Limits(self.request_s * factor, self.launch_s * factor, self.patience_s)


class Turns:
    """Hands out turns, one after another, to all processes that share a file.

    A turn is reserved under a lock that is held for a moment only, and then waited for without
    it. Times are monotonic ones: those are the same in all processes of a machine, and no change
    of the wall clock moves them.
    """

    def __init__(self, path: Path, limits: Limits, clock: Clock) -> None:
        """`path` is made at first use, with its folder."""
        self._path = path
        self._limits = limits
        self._clock = clock

    def wait(self, *kinds: str) -> None:
        """Returns when this call may be made. Raises `TooBusyError`, and then took no turn."""
        every = {REQUEST: self._limits.request_s, LAUNCH: self._limits.launch_s}
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = self._clock.monotonic()
            free = self._free(file.read() if not file.seek(0) else "", every, now)
            at = max([now, *(free[kind] for kind in kinds)])
            if at - now > self._limits.patience_s:
                raise TooBusyError(at - now)
            file.truncate(0)
            file.write(json.dumps({**free, **{kind: at + every[kind] for kind in kinds}}))
        self._clock.sleep(max(0.0, at - now))

    def _free(self, text: str, every: Mapping[str, float], now: float) -> dict[str, float]:
        """When each kind is free again; a time that nobody can have reserved is forgotten.

        Monotonic time begins anew when the machine does: what was written before then lies far
        ahead.
        """
        try:
            kept = {kind: float(json.loads(text)[kind]) for kind in every}
        except (ValueError, KeyError, TypeError):
            kept = dict.fromkeys(every, now)
        furthest = {kind: now + self._limits.patience_s + s for kind, s in every.items()}
        return {kind: at if at <= furthest[kind] else now for kind, at in kept.items()}


def turns_for(key: str, home: Path, limits: Limits, clock: Clock) -> Turns:
    """The turns of one account: Lambda counts by key, so the file is named by its hash."""
    name = hashlib.sha256(b"kwanzaa turns\0" + key.encode()).hexdigest()[:16]
    return Turns(home / "lambda" / f"turns-{name}.json", limits, clock)
