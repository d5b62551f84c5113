"""The ledger's file: how it is opened, brought up to date and examined."""

import sqlite3
from contextlib import closing
from pathlib import Path

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.runs.migrations import MIGRATIONS

BUSY_TIMEOUT_S = 30.0


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
