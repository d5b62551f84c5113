"""What somebody should hear of: written down with the change itself, told once by whoever watches.

A notice is posted in the transaction that makes it true. A watcher claims it before telling it, so
of several only one does. A claim whose watcher died is anybody's again after a while: only a death
in the middle of telling can make a notice heard twice, and none is lost.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kwanzaa_compute.runs.records import RunState

CLAIM_S = 60.0
"""So long, in seconds, a claim lasts: much longer than telling may take."""
MOST_TRIES = 3
OLDEST_S = 86_400.0
"""What happened longer ago than this, in seconds, is no news."""
_MOST_AT_ONCE = 20


class NoticeKind(StrEnum):
    """What happened. BILLING is always told, whatever the config says."""

    FINISH = "finish"
    FAILURE = "failure"
    STALL = "stall"
    CAP = "cap"
    BILLING = "billing"


_KIND_OF_END: Mapping[RunState, NoticeKind] = {
    RunState.DONE: NoticeKind.FINISH,
    RunState.FAILED: NoticeKind.FAILURE,
    RunState.NO_CAPACITY: NoticeKind.FAILURE,
    RunState.CAPPED: NoticeKind.CAP,
}
"""Who stops a run knows that it has stopped."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened to a run at time `at` (seconds since the epoch)."""

    run_id: str
    key: str
    kind: str
    message: str
    at: float


def post_end(db: sqlite3.Connection, run_id: str, state: RunState, reason: str, at: float) -> None:
    """Posts the end of a run. Call it in the transaction that ends it."""
    kind = _KIND_OF_END.get(state)
    if kind is not None:
        post(db, Notice(run_id, f"end {at!r}", kind, reason, at))


def post(db: sqlite3.Connection, notice: Notice) -> None:
    """Posts a notice; where the run has one of the same key already, nothing happens."""
    db.execute(
        "INSERT INTO notices VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (notice.run_id, notice.key, notice.kind, notice.message, notice.at),
    )


def waiting(db: sqlite3.Connection, channel: str, now: float) -> list[Notice]:
    """What is to be told through a channel, the oldest first, and is nobody's just now."""
    rows = db.execute(
        "SELECT n.run_id, n.key, n.kind, n.message, n.at FROM notices n LEFT JOIN deliveries d"
        " ON d.run_id = n.run_id AND d.key = n.key AND d.channel = ?"
        " WHERE n.at > ? AND (d.channel IS NULL OR"
        " (d.settled_at IS NULL AND d.tries < ? AND d.claimed_at <= ?))"
        " ORDER BY n.at, n.run_id, n.key LIMIT ?",
        (channel, now - OLDEST_S, MOST_TRIES, now - CLAIM_S, _MOST_AT_ONCE),
    )
    return [Notice(*row) for row in rows]


def claim(db: sqlite3.Connection, channel: str, now: float) -> list[Notice]:
    """Makes what waits ours to tell. Call it in a transaction."""
    found = waiting(db, channel, now)
    db.executemany(
        "INSERT INTO deliveries VALUES (?, ?, ?, 1, ?, NULL) ON CONFLICT DO UPDATE"
        " SET tries = tries + 1, claimed_at = excluded.claimed_at",
        [(notice.run_id, notice.key, channel, now) for notice in found],
    )
    return found


def settle(db: sqlite3.Connection, notice: Notice, channel: str, now: float) -> None:
    """Whatever became of it, it is not told again through this channel."""
    db.execute(
        "UPDATE deliveries SET settled_at = ? WHERE run_id = ? AND key = ? AND channel = ?",
        (now, notice.run_id, notice.key, channel),
    )
