"""The ledger's file: how it is opened, and every schema that it ever had."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kwanzaa_compute.errors import UsageError

BUSY_TIMEOUT_S = 30.0

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, store_url TEXT NOT NULL,
        state TEXT NOT NULL, wish TEXT NOT NULL, created_at REAL NOT NULL, config TEXT NOT NULL,
        candidates TEXT NOT NULL, max_usd INTEGER, max_hours REAL NOT NULL,
        output_dir TEXT NOT NULL, estimate_usd INTEGER,
        resumed_at REAL NOT NULL, ended_at REAL, reason TEXT NOT NULL
    ) STRICT;
    CREATE TABLE attempts (
        run_id TEXT NOT NULL REFERENCES runs (id), number INTEGER NOT NULL,
        name TEXT NOT NULL UNIQUE, provider TEXT NOT NULL, offer_id TEXT NOT NULL,
        region TEXT NOT NULL, gpu TEXT NOT NULL, spot INTEGER NOT NULL,
        usd_per_hour INTEGER NOT NULL, billing_step_s INTEGER NOT NULL, minimum_s INTEGER NOT NULL,
        max_hours REAL NOT NULL, state TEXT NOT NULL, intended_at REAL NOT NULL,
        machine_id TEXT NOT NULL, beat_sequence INTEGER NOT NULL, beat_changed_at REAL,
        phase TEXT NOT NULL, step INTEGER NOT NULL, checkpoint TEXT NOT NULL,
        asked_to_stop_at REAL, absent_since REAL, ending TEXT, ending_at REAL,
        fault TEXT NOT NULL, reason TEXT NOT NULL, exit_code INTEGER, closed_at REAL,
        PRIMARY KEY (run_id, number)
    ) STRICT;
    CREATE INDEX open_attempts ON attempts (run_id) WHERE state <> 'closed';
    CREATE TABLE leases (
        run_id TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
        message TEXT NOT NULL, details TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_of_run ON events (run_id, id);
    """,
    """
    CREATE TABLE speeds (
        run_id TEXT PRIMARY KEY REFERENCES runs (id), at REAL NOT NULL, gpu TEXT NOT NULL,
        expected_tokens_per_s REAL NOT NULL, actual_tokens_per_s REAL NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE runs ADD COLUMN deadline_at REAL;
    ALTER TABLE attempts ADD COLUMN total_steps INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE attempts ADD COLUMN reserve_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN retry_at REAL;
    CREATE INDEX open_runs ON runs (created_at) WHERE state = 'running';
    CREATE TABLE project (max_usd INTEGER NOT NULL) STRICT;
    CREATE TABLE watchers (holder TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT;
    """,
)


def connect(path: Path | str) -> sqlite3.Connection:
    """Opens or creates the database at `path` (or `file:` URI), private and fully synchronous."""
    is_uri = str(path).startswith("file:")
    if not is_uri:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=is_uri)
    db.row_factory = sqlite3.Row
    if not is_uri:  # one in memory, for tests, knows no WAL
        db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def version(db: sqlite3.Connection) -> int:
    """How many migrations the database has seen."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Brings the database up to date, inside a transaction; a newer one raises `UsageError`."""
    seen = version(db)
    if seen > len(MIGRATIONS):
        raise UsageError(
            "the ledger was written by a newer version of kwanzaa-compute",
            mend="pip install --upgrade kwanzaa-compute",
        )
    for script in MIGRATIONS[seen:]:
        for statement in filter(str.strip, script.split(";")):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def integrity(path: Path) -> str:
    """SQLite's own verdict on a ledger file: "ok", or what is wrong with it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])
