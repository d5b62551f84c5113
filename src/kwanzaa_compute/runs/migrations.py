"""The ledger's schema, change by change. What has been released is never edited, only added to."""

from collections.abc import Sequence

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
    CREATE TABLE notices (
        run_id TEXT NOT NULL REFERENCES runs (id), key TEXT NOT NULL, kind TEXT NOT NULL,
        message TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (run_id, key)
    ) STRICT;
    CREATE TABLE deliveries (
        run_id TEXT NOT NULL, key TEXT NOT NULL, channel TEXT NOT NULL, tries INTEGER NOT NULL,
        claimed_at REAL NOT NULL, settled_at REAL, PRIMARY KEY (run_id, key, channel),
        FOREIGN KEY (run_id, key) REFERENCES notices (run_id, key)
    ) STRICT;
    """,
    """
    ALTER TABLE attempts ADD COLUMN reserve_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN retry_at REAL;
    CREATE INDEX open_runs ON runs (created_at) WHERE state = 'running';
    CREATE TABLE project (max_usd INTEGER NOT NULL) STRICT;
    CREATE TABLE watchers (holder TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT;
    """,
)
