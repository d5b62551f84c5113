"""What the run says while it trains: heartbeat, metrics and log, carried into the store.

Nothing in here can stop the training: a put that fails is said on stderr and tried next time.
Objects are rewritten whole (object stores cannot append), at most once an interval, by one
background thread, so that a slow store never holds the GPU.
"""

import json
import math
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from kwanzaa_compute.clock import Clock, iso
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.folder import Heartbeat, RunFolder, TrainingPhase

COUNTED_S = 60.0
"""A store whose heartbeats are farther apart than this takes few changes an hour."""
_SEVERITY = ("info", "warning", "error")


@dataclass(slots=True)
class Journal:
    """The voice of one attempt. `close()` carries the last words and ends the thread."""

    folder: RunFolder
    attempt: int
    interval_s: float
    clock: Clock
    is_heard: bool = True
    """False: it keeps silent, because another process speaks for the run."""
    name: str = ""
    """What its lines on stderr begin with."""
    _beat: Heartbeat = field(init=False)
    _metrics: list[bytes] = field(default_factory=list)
    _log: list[bytes] = field(default_factory=list)
    _sent: dict[str, int] = field(default_factory=dict)
    _sent_sequence: int = 0
    _sent_at: float = -math.inf
    _thread: ThreadPoolExecutor = field(init=False)
    _flight: "Future[None] | None" = None

    def __post_init__(self) -> None:
        self._beat = Heartbeat(sequence=0, phase=TrainingPhase.DOWNLOAD, attempt=self.attempt)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    def say(self, event: str, text: str, *, level: str = "info", **fields: Any) -> None:
        """One event: a line for people on stderr, a record for programs in log.jsonl."""
        if level not in _SEVERITY:
            raise ValueError(level)
        if not self.is_heard:
            return
        now = iso(self.clock.now())
        record = {"time": now, "level": level, "event": event, "message": text, **fields}
        self._log.append(_line(record))
        mark = f"{self.name}: " if self.name else ""
        mark += "" if level == "info" else f"{level.upper()}: "
        sys.stderr.write(f"{now} {mark}{text}\n")
        sys.stderr.flush()

    def metric(self, kind: str, step: int, loss: float, **fields: Any) -> None:
        """One row of metrics.jsonl. `loss_hex` is the exact value, to the last bit."""
        row = {"step": step, "kind": kind, "loss": _finite(loss), "loss_hex": loss.hex()}
        row |= _clean(fields)
        self._metrics.append(_line(row))

    def progress(self, phase: TrainingPhase, *, next_s: float | None = None, **fields: Any) -> None:
        """Something moved: the heartbeat's sequence goes up, and is carried when it is time.

        Call it only after real progress; a heartbeat that beats while nothing moves lies. With
        `next_s`, in how many seconds it moves again, it promises the next heartbeat.
        """
        turned = phase != self._beat.phase
        clean = _clean(fields)
        clean["interval_s"] = None if next_s is None else max(self.interval_s, next_s)
        self._beat = replace(self._beat, phase=phase, sequence=self._beat.sequence + 1, **clean)
        # A new phase is told at once, unless the store counts every change.
        at_once = turned and self.interval_s < COUNTED_S
        if at_once or self.clock.monotonic() - self._sent_at >= self.interval_s:
            self._send()

    @property
    def heartbeat(self) -> Heartbeat:
        """The last heartbeat, carried or not yet."""
        return self._beat

    def flush(self) -> None:
        """Carries everything that has not been carried yet, and waits for it."""
        if not self.is_heard:
            return
        self._wait()
        if self._beat.sequence > self._sent_sequence or any(
            len(rows) > self._sent.get(path, 0) for path, rows in self._files().items()
        ):
            self._send()
            self._wait()

    def close(self) -> None:
        """Carries the last words and ends the thread."""
        self.flush()
        self._thread.shutdown()

    def _send(self) -> None:
        if not self.is_heard or (self._flight is not None and not self._flight.done()):
            return  # the store is slow: the next call carries all that came meanwhile
        self._sent_at = self.clock.monotonic()
        changed = {
            path: list(rows)
            for path, rows in self._files().items()
            if len(rows) > self._sent.get(path, 0)
        }
        self._flight = self._thread.submit(self._carry, self._beat, changed)

    def _files(self) -> dict[str, list[bytes]]:
        base = f"attempts/{self.attempt}"
        return {f"{base}/metrics.jsonl": self._metrics, f"{base}/log.jsonl": self._log}

    def _carry(self, beat: Heartbeat, changed: dict[str, list[bytes]]) -> None:
        """Runs on the thread. The metrics go first: a heartbeat never runs ahead of them."""
        failed = [path for path, rows in changed.items() if not self._put(path, rows)]
        try:
            self.folder.put_heartbeat(beat)
            self._sent_sequence = beat.sequence
        except StoreError:
            failed.append("heartbeat.json")
        if failed:
            names = ", ".join(path.rsplit("/", 1)[-1] for path in failed)
            sys.stderr.write(f"WARNING: the store did not take {names}; trying again later\n")

    def _put(self, path: str, rows: list[bytes]) -> bool:
        try:
            self.folder.store.put(path, b"".join(rows))
        except StoreError:
            return False
        self._sent[path] = len(rows)
        return True

    def _wait(self) -> None:
        if self._flight is not None:
            self._flight.result()


def _clean(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: _finite(v) if isinstance(v, float) else v for k, v in fields.items()}


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, default=str).encode() + b"\n"
