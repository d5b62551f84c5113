"""The ledger's file: private, durable, brought up to date, and safe among many processes."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.runs import schema as module
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.rows import ATTEMPTS, RUNS
from kwanzaa_compute.runs.schema import integrity
from kwanzaa_compute.testing.samples import sample_attempt, sample_run

Hands = Any  # those of conftest.py


# -- the file ---------------------------------------------------------------------------------


def test_the_ledger_and_its_side_files_are_private(ledger: Ledger, tmp_path: Path) -> None:
    ledger.note("r1", "x", "y")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert set(modes) == {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(modes.values()) == {0o600}


def test_a_new_folder_for_the_ledger_is_private(tmp_path: Path, hands: Hands) -> None:
    with closing(Ledger(tmp_path / "new" / "ledger.db", hands.clock)):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(
    tmp_path: Path, hands: Hands
) -> None:
    path = tmp_path / "ledger.db"
    Ledger(path, hands.clock).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="newer version"):
        Ledger(path, hands.clock)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)


def test_a_ledger_from_before_deadlines_is_brought_up_to_date(
    tmp_path: Path, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    with monkeypatch.context() as before:
        before.setattr(module, "MIGRATIONS", module.MIGRATIONS[:2])
        Ledger(path, hands.clock).close()
    new = {
        "runs": {"deadline_at"},
        "attempts": {"total_steps", "leaving", "reserve_s", "retry_at"},
    }
    with closing(sqlite3.connect(path)) as db:
        for table, rows, record in (
            ("runs", RUNS, sample_run()),
            ("attempts", ATTEMPTS, sample_attempt()),
        ):
            names = [field.name for field in fields(record)]
            written = dict(zip(names, rows.written(record), strict=True))
            old = {name: value for name, value in written.items() if name not in new[table]}
            marks = ", ".join("?" * len(old))
            values = tuple(old.values())
            db.execute(f"INSERT INTO {table} ({', '.join(old)}) VALUES ({marks})", values)
        db.commit()
    with closing(Ledger(path, hands.clock)) as ledger:
        assert ledger.run("r1") == sample_run()
        assert ledger.attempts("r1") == [sample_attempt()]
        later = replace(sample_run(id="r2"), deadline_at=5000.0)
        ledger.add_run(later)
        assert ledger.run("r2") == later


def test_opening_a_ledger_again_waits_for_no_writer(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # somebody else is writing
        monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.1)
        with closing(Ledger(tmp_path / "ledger.db", Clock())) as again:
            assert [r.id for r in again.runs()] == ["r1"]
        other.execute("ROLLBACK")
    del ledger


def test_every_change_is_fully_synchronous(ledger: Ledger) -> None:
    full = 2
    assert ledger._db.execute("PRAGMA synchronous").fetchone()[0] == full
    assert ledger._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_sound_ledger_is_called_ok(ledger: Ledger, tmp_path: Path) -> None:
    ledger.note("r1", "x", "y")
    assert integrity(tmp_path / "ledger.db") == "ok"


# -- transactions -----------------------------------------------------------------------------


def test_a_transaction_that_fails_leaves_the_ledger_usable(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        ledger.add_run(sample_run())
    ledger.note("r1", "still", "here")
    assert ledger.events("r1")[-1].kind == "still"


def test_a_full_disk_is_reported_and_survived(ledger: Ledger) -> None:
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        ledger.note("r1", "big", "x" * 1_000_000)
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    ledger.note("r1", "small", "x")
    assert [e.kind for e in ledger.events("r1")] == ["small"]


_WRITER = """
import sys
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.runs.ledger import Ledger
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.read(1)  # all of them at once
ledger = Ledger(path, Clock())
for number in range(count):
    if number % 2:
        lease = ledger.take_lease("r1", who, 0.0)
    else:
        ledger.note("r1", who, str(number))
"""


def test_eight_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(Ledger(path, Clock())) as ledger:
        ledger.add_run(sample_run())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), f"w{n}", "150"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for n in range(8)
    ]
    complaints = [writer.communicate(timeout=100)[1] for writer in writers]
    assert complaints == [""] * 8
    with closing(Ledger(path, Clock())) as ledger:
        events = ledger.events("r1")
    assert sorted({e.kind for e in events}) == [f"w{n}" for n in range(8)]
    assert len(events) == 8 * 75
    assert integrity(path) == "ok"


def test_processes_that_open_a_new_ledger_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from kwanzaa_compute.clock import Clock;"
        " from kwanzaa_compute.runs.ledger import Ledger; Ledger(sys.argv[1], Clock())"
    )
    path = tmp_path / "ledger.db"
    openers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    assert [opener.communicate(timeout=100)[1] for opener in openers] == [""] * 8
    assert integrity(path) == "ok"
