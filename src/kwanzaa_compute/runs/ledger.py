"""The ledger: what was intended, what was spent, who watches. SQLite, safe among many processes.

Every change is one `BEGIN IMMEDIATE` transaction (a deferred one fails under load), and every
change by a watcher is fenced: it happens only while that watcher holds the run's lease.
"""

import difflib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, TypeVar

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import KwanzaaError, LeaseLostError, UsageError
from kwanzaa_compute.market.speed import SpeedReceipt
from kwanzaa_compute.runs import outbox
from kwanzaa_compute.runs.migrations import MIGRATIONS
from kwanzaa_compute.runs.outbox import Notice
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Event,
    Fault,
    Lease,
    Move,
    RunRecord,
    RunState,
    Wish,
)

BUSY_TIMEOUT_S = 30.0
_MICRO = Decimal(1_000_000)

R = TypeVar("R", RunRecord, AttemptRecord)

_MONEY = frozenset({"max_usd", "estimate_usd", "usd_per_hour"})
_ENUMS: Mapping[str, Mapping[str, type]] = {
    "runs": {"state": RunState, "wish": Wish},
    "attempts": {
        "state": AttemptState,
        "ending": Move,
        "fault": Fault,
        "spot": bool,
        "leaving": bool,
    },
}


class Ledger:
    """All runs and attempts of one user on one machine. Open it in every process that needs it."""

    def __init__(self, path: Path | str, clock: Clock) -> None:
        """Opens or creates the ledger at `path`, mode 0600; a newer schema is refused."""
        self._clock = clock
        if not str(path).startswith("file:"):
            path = Path(path)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        self._db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=str(path).startswith("file:")
        )
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._migrate()

    def close(self) -> None:
        """Releases the database."""
        self._db.close()

    # -- runs ---------------------------------------------------------------------------------

    def add_run(self, run: RunRecord) -> None:
        """Remembers a run before anything is spent on it."""
        with self._transaction():
            self._insert("runs", run)

    def run(self, run_id: str) -> RunRecord:
        """The run of this id, or of a unique beginning of it; `UsageError` where there is none."""
        exact = self._db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if exact:
            return _read("runs", RunRecord, exact)
        escaped = run_id.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        rows = self._db.execute(
            r"SELECT * FROM runs WHERE id LIKE ? ESCAPE '\' LIMIT 2", (f"{escaped}%",)
        ).fetchall()
        if not rows:
            raise UsageError(f"there is no run {run_id!r}", mend=self._similar(run_id))
        if len(rows) > 1:
            raise UsageError(f"{run_id!r} begins the names of several runs", mend="kwanzaa runs")
        return _read("runs", RunRecord, rows[0])

    def runs(self, *, only_open: bool = False) -> list[RunRecord]:
        """All runs, or those that are not final, newest first."""
        where = "WHERE state = 'running'" if only_open else ""
        query = f"SELECT * FROM runs {where} ORDER BY created_at DESC, id"  # noqa: S608 -- constants
        return [_read("runs", RunRecord, row) for row in self._db.execute(query)]

    def set_wish(self, run_id: str, wish: Wish) -> None:
        """What the user wants; needs no lease, for it binds whoever holds it."""
        with self._transaction():
            run = self.run(run_id)
            if run.wish is Wish.TERMINATE and wish is Wish.STOP:
                return  # an end that was asked for at once does not wait for a checkpoint
            self._db.execute("UPDATE runs SET wish = ? WHERE id = ?", (wish, run.id))

    def reopen(self, run_id: str, *, candidates: str, max_usd: Decimal | None) -> None:
        """Makes a final run RUNNING again, with fresh candidates and cap."""
        with self._transaction():
            if self.run(run_id).state is RunState.RUNNING:
                raise UsageError(f"run {run_id} is still running", mend=f"kwanzaa resume {run_id}")
            self._db.execute(
                "UPDATE runs SET state = 'running', wish = 'run', reason = '', ended_at = NULL,"
                " candidates = ?, max_usd = ?, resumed_at = ? WHERE id = ?",
                (candidates, _micro("max_usd", max_usd), self._clock.now(), run_id),
            )

    def end_run(self, lease: Lease, state: RunState, reason: str) -> None:
        """Makes a run final. Refused while any of its attempts is not closed."""
        with self._fenced(lease):
            still = self._db.execute(
                "SELECT name FROM attempts WHERE run_id = ? AND state <> 'closed'", (lease.run_id,)
            ).fetchone()
            if still:
                raise KwanzaaError(f"attempt {still['name']} is not closed; the run cannot end")
            self._db.execute(
                "UPDATE runs SET state = ?, reason = ?, ended_at = ? WHERE id = ?",
                (state, reason, self._clock.now(), lease.run_id),
            )
            outbox.post_end(self._db, lease.run_id, state, _text(reason), self._clock.now())

    # -- attempts -----------------------------------------------------------------------------

    def add_attempt(self, lease: Lease, attempt: AttemptRecord) -> None:
        """Writes the intent to launch. It is durable when this returns, before any money flows."""
        with self._fenced(lease):
            open_already = self._db.execute(
                "SELECT 1 FROM attempts WHERE run_id = ? AND state <> 'closed'", (attempt.run_id,)
            ).fetchone()
            if open_already:
                raise KwanzaaError("a run has one open attempt at a time")
            self._insert("attempts", attempt)

    def update_attempt(self, lease: Lease, attempt: AttemptRecord, **changes: Any) -> AttemptRecord:
        """Writes some fields of an attempt, and returns the attempt with them."""
        changed = replace(attempt, **changes)
        values = _written(changed)
        names = ", ".join(f"{name} = ?" for name in changes)
        with self._fenced(lease):
            self._db.execute(
                f"UPDATE attempts SET {names} WHERE run_id = ? AND number = ?",  # noqa: S608 -- field names
                (*(values[name] for name in changes), attempt.run_id, attempt.number),
            )
        return changed

    def attempts(self, run_id: str) -> list[AttemptRecord]:
        """The run's attempts, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM attempts WHERE run_id = ? ORDER BY number", (run_id,)
        )
        return [_read("attempts", AttemptRecord, row) for row in rows]

    def open_attempts(self) -> list[AttemptRecord]:
        """Every attempt that may still cost money."""
        rows = self._db.execute(
            "SELECT * FROM attempts WHERE state <> 'closed' ORDER BY intended_at"
        )
        return [_read("attempts", AttemptRecord, row) for row in rows]

    # -- leases -------------------------------------------------------------------------------

    def take_lease(self, run_id: str, holder: str, ttl_s: float) -> Lease | None:
        """Takes or renews the lease on a run; None while another holder's has not expired."""
        now = self._clock.now()
        with self._transaction():
            row = self._db.execute("SELECT * FROM leases WHERE run_id = ?", (run_id,)).fetchone()
            if row and row["holder"] != holder and row["expires_at"] > now:
                return None
            token = 1 if row is None else row["token"] + (row["holder"] != holder)
            lease = Lease(run_id, holder, token, now + ttl_s)
            self._db.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET"
                " holder = excluded.holder, token = excluded.token,"
                " expires_at = excluded.expires_at",
                (run_id, holder, token, lease.expires_at),
            )
        return lease

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """Makes a lease that still holds last longer; raises `LeaseLostError` where it does not."""
        with self._fenced(lease):
            renewed = replace(lease, expires_at=self._clock.now() + ttl_s)
            self._db.execute(
                "UPDATE leases SET expires_at = ? WHERE run_id = ?",
                (renewed.expires_at, lease.run_id),
            )
        return renewed

    def release_lease(self, lease: Lease) -> None:
        """Lets another watcher take over at once."""
        with self._transaction():
            self._db.execute(
                "UPDATE leases SET expires_at = 0 WHERE run_id = ? AND token = ? AND holder = ?",
                (lease.run_id, lease.token, lease.holder),
            )

    def expire_leases(self, run_id: str) -> None:
        """Takes the run from whoever watches it: fencing makes that safe, if rude."""
        with self._transaction():
            self._db.execute("UPDATE leases SET expires_at = 0 WHERE run_id = ?", (run_id,))

    def check_lease(self, lease: Lease) -> None:
        """Raises `LeaseLostError` unless the lease still holds: ask before touching a machine."""
        row = self._db.execute(
            "SELECT 1 FROM leases WHERE run_id = ? AND token = ? AND holder = ? AND expires_at > ?",
            (lease.run_id, lease.token, lease.holder, self._clock.now()),
        ).fetchone()
        if row is None:
            raise LeaseLostError(
                f"another watcher has taken over run {lease.run_id}",
                mend=f"kwanzaa show {lease.run_id}",
            )

    def watcher(self, run_id: str) -> str | None:
        """Who holds an unexpired lease on the run; None where nobody watches it."""
        row = self._db.execute(
            "SELECT holder FROM leases WHERE run_id = ? AND expires_at > ?",
            (run_id, self._clock.now()),
        ).fetchone()
        return row["holder"] if row else None

    # -- events -------------------------------------------------------------------------------

    def note(self, run_id: str, kind: str, message: str, **details: Any) -> None:
        """Adds a line to the run's history. Never a secret: it is kept for good."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO events (run_id, at, kind, message, details) VALUES (?, ?, ?, ?, ?)",
                (
                    run_id,
                    self._clock.now(),
                    kind,
                    _text(message),
                    json.dumps(details, sort_keys=True),
                ),
            )

    def events(self, run_id: str) -> list[Event]:
        """The run's history, oldest first."""
        rows = self._db.execute("SELECT * FROM events WHERE run_id = ? ORDER BY id", (run_id,))
        return [
            Event(row["at"], row["kind"], row["message"], json.loads(row["details"]))
            for row in rows
        ]

    # -- notices ------------------------------------------------------------------------------

    def add_notice(self, run_id: str, key: str, kind: str, message: str) -> None:
        """Somebody should hear of this; a `key` that the run has had already is heard of once."""
        with self._transaction():
            outbox.post(self._db, Notice(run_id, key, kind, _text(message), self._clock.now()))

    def claim_notices(self, channel: str) -> list[Notice]:
        """What is to be told through a channel: now it is ours to tell, and nobody else's."""
        if not outbox.waiting(self._db, channel, self._clock.now()):
            return []  # looking costs no lock
        with self._transaction():
            return outbox.claim(self._db, channel, self._clock.now())

    def settle_notice(self, notice: Notice, channel: str) -> None:
        """It was told, or nobody wants to hear it: nobody tells it again."""
        with self._transaction():
            outbox.settle(self._db, notice, channel, self._clock.now())

    # -- speeds -------------------------------------------------------------------------------

    def add_speed(self, run_id: str, receipt: SpeedReceipt) -> None:
        """How fast a finished run was beside what had been expected; its first word stays."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO speeds VALUES (?, ?, ?, ?, ?) ON CONFLICT (run_id) DO NOTHING",
                (
                    run_id,
                    self._clock.now(),
                    _text(receipt.gpu),
                    receipt.expected_tokens_per_s,
                    receipt.actual_tokens_per_s,
                ),
            )

    def speeds(self) -> tuple[SpeedReceipt, ...]:
        """How fast the newest hundred finished runs were, newest first."""
        rows = self._db.execute(
            "SELECT gpu, expected_tokens_per_s, actual_tokens_per_s FROM speeds"
            " ORDER BY at DESC, run_id LIMIT 100"
        )
        return tuple(SpeedReceipt(*row) for row in rows)

    # -- inside -------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[None]:
        with self._transaction():
            self.check_lease(lease)
            yield

    def _migrate(self) -> None:
        if self._db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
            return  # opening to read does not wait for whoever writes
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise UsageError(
                    "the ledger was written by a newer version of kwanzaa-compute",
                    mend="pip install --upgrade kwanzaa-compute",
                )
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _similar(self, run_id: str) -> str:
        """What mends a wrong name: the run that was probably meant."""
        names = [row["id"] for row in self._db.execute("SELECT id FROM runs")]
        close = difflib.get_close_matches(run_id, names, n=1)
        return f"did you mean {close[0]}? kwanzaa runs shows all" if close else "kwanzaa runs"

    def _insert(self, table: str, record: RunRecord | AttemptRecord) -> None:
        values = _written(record)
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._db.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 -- our own field names
            tuple(values.values()),
        )


def _micro(name: str, usd: Decimal | None) -> int | None:
    """Millionths of a dollar, rounded against us: a cap down, whatever is to be paid up."""
    if usd is None:
        return None
    rounding = ROUND_FLOOR if name == "max_usd" else ROUND_CEILING
    return int((usd * _MICRO).to_integral_value(rounding))


def _text(value: Any) -> Any:
    """Strings that SQLite can keep: providers and machines may send halves of surrogate pairs."""
    return value.encode(errors="replace").decode() if type(value) is str else value


def _written(record: RunRecord | AttemptRecord) -> dict[str, Any]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {n: _micro(n, v) if n in _MONEY else _text(v) for n, v in values.items()}


def _read(table: str, kind: type[R], row: sqlite3.Row) -> R:
    values = dict(row)
    for name, enum in _ENUMS[table].items():
        values[name] = None if values[name] is None else enum(values[name])
    for name in _MONEY & values.keys():
        values[name] = None if values[name] is None else Decimal(values[name]) / _MICRO
    return kind(**values)


def integrity(path: Path) -> str:
    """SQLite's own verdict on a ledger file: "ok", or what is wrong with it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])
