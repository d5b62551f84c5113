"""The ledger: durable, fenced, private, and safe among many processes."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import BudgetError, KwanzaaError, LeaseLostError, UsageError
from kwanzaa_compute.runs import schema as module
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptState, Fault, Lease, Move, RunState, Wish
from kwanzaa_compute.runs.rows import ATTEMPTS, RUNS
from kwanzaa_compute.runs.schema import integrity
from kwanzaa_compute.testing.samples import sample_attempt, sample_run


class Hands:
    """The hands of a clock, to be moved by a test."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.clock = Clock(now=lambda: self.at, monotonic=lambda: self.at)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def ledger(tmp_path: Path, hands: Hands) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.db", hands.clock)) as ledger:
        ledger.add_run(sample_run())
        yield ledger


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    lease = ledger.take_lease("r1", "a", 120)
    assert lease is not None
    return lease


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


# -- runs -------------------------------------------------------------------------------------


def test_a_run_comes_back_as_it_was_written(ledger: Ledger) -> None:
    run = sample_run(id="r2", max_usd=Decimal("0.123456"), estimate_usd=None, wish=Wish.STOP)
    ledger.add_run(run)
    assert ledger.run("r2") == run


def test_a_run_is_found_by_a_unique_beginning(ledger: Ledger) -> None:
    ledger.add_run(sample_run(id="abc-1"))
    assert ledger.run("abc").id == "abc-1"
    ledger.add_run(sample_run(id="abc"))
    assert ledger.run("abc").id == "abc"
    with pytest.raises(UsageError, match="several"):
        ledger.run("ab")


@pytest.mark.parametrize("name", ["%", "_1", "r%", "nosuch"])
def test_wildcards_find_no_run(ledger: Ledger, name: str) -> None:
    with pytest.raises(UsageError, match="no run"):
        ledger.run(name)


def test_a_wish_for_an_unknown_run_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="no run"):
        ledger.set_wish("nosuch", Wish.STOP)


def test_a_wish_to_terminate_is_not_softened_into_a_stop(ledger: Ledger) -> None:
    ledger.set_wish("r1", Wish.TERMINATE)
    ledger.set_wish("r1", Wish.STOP)
    assert ledger.run("r1").wish is Wish.TERMINATE


def test_a_run_with_an_open_attempt_cannot_end(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt())
    with pytest.raises(KwanzaaError, match="not closed"):
        ledger.end_run(lease, RunState.DONE, "")
    assert ledger.run("r1").state is RunState.RUNNING


def test_a_final_run_is_reopened_with_a_new_cap(ledger: Ledger, lease: Lease, hands: Hands) -> None:
    ledger.set_wish("r1", Wish.STOP)
    ledger.end_run(lease, RunState.CAPPED, "the cap")
    hands.at = 5000.0
    ledger.reopen("r1", candidates="[]", max_usd=Decimal(20))
    run = ledger.run("r1")
    assert (run.state, run.wish, run.max_usd) == (RunState.RUNNING, Wish.RUN, Decimal(20))
    assert (run.resumed_at, run.ended_at, run.reason) == (5000.0, None, "")


def test_a_running_run_is_not_reopened(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="still running"):
        ledger.reopen("r1", candidates="[]", max_usd=None)


# -- attempts ---------------------------------------------------------------------------------


def test_an_attempt_comes_back_as_it_was_written(ledger: Ledger, lease: Lease) -> None:
    attempt = sample_attempt(
        spot=True, ending=Move.HALT, fault=Fault.CRASHED, usd_per_hour=Decimal("1.234567")
    )
    ledger.add_attempt(lease, attempt)
    assert ledger.attempts("r1") == [attempt]
    assert ledger.open_attempts() == [attempt]


def test_a_run_has_one_open_attempt_at_a_time(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt())
    with pytest.raises(KwanzaaError, match="one open attempt"):
        ledger.add_attempt(lease, sample_attempt(number=2, name="kwz-me-r1-2"))


def test_a_price_is_never_rounded_down(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt(usd_per_hour=Decimal("1.00000001")))
    assert ledger.attempts("r1")[0].usd_per_hour > Decimal("1.00000001")


def test_a_cap_is_never_rounded_up(ledger: Ledger) -> None:
    ledger.add_run(sample_run(id="r2", max_usd=Decimal("9.9999999")))
    cap = ledger.run("r2").max_usd
    assert cap is not None
    assert cap < Decimal("9.9999999")


def test_text_that_is_no_unicode_is_kept_readable(ledger: Ledger, lease: Lease) -> None:
    attempt = sample_attempt()
    ledger.add_attempt(lease, attempt)
    ledger.update_attempt(lease, attempt, reason="half a pair: \ud800, and \0")
    ledger.note("r1", "trainer", "half a pair: \udfff", said="\ud800")
    assert ledger.attempts("r1")[0].reason.startswith("half a pair: ?")
    assert ledger.events("r1")[-1].message == "half a pair: ?"


# -- the project's cap ------------------------------------------------------------------------


def _ask(ledger: Ledger, run_id: str, **changes: object) -> None:
    lease = ledger.take_lease(run_id, "a", 120)
    assert lease is not None
    attempt = sample_attempt(
        run_id=run_id, name=f"kwz-me-{run_id}-1", state=AttemptState.INTENDED, intended_at=1000.0
    )
    ledger.add_attempt(lease, replace(attempt, max_hours=4.0, **changes))  # type: ignore[arg-type]


def test_two_runs_never_take_the_same_dollars(ledger: Ledger) -> None:
    ledger.set_project_cap(Decimal(7))
    ledger.add_run(sample_run(id="r2"))
    _ask(ledger, "r1")
    assert ledger.project_left_usd() == Decimal(3)
    with pytest.raises(BudgetError, match=r"only \$3.00 of the project's cap"):
        _ask(ledger, "r2")
    assert ledger.attempts("r2") == []


def test_the_time_that_an_end_may_take_is_taken_from_the_projects_cap(ledger: Ledger) -> None:
    ledger.set_project_cap(Decimal(10))
    _ask(ledger, "r1", reserve_s=1800.0)
    assert ledger.project_left_usd() == Decimal("5.50")


def test_what_a_closed_attempt_did_not_use_is_free_again(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    ledger.set_project_cap(Decimal(7))
    _ask(ledger, "r1")
    hands.at += 1800
    ledger.update_attempt(
        ledger.renew_lease(lease, 60),
        ledger.attempts("r1")[0],
        state=AttemptState.CLOSED,
        closed_at=hands.at,
    )
    assert ledger.project_left_usd() == Decimal("6.50")
    assert ledger.project().spent_usd == Decimal("0.50")


def test_our_own_machine_needs_nothing_of_the_projects_cap(ledger: Ledger) -> None:
    ledger.set_project_cap(Decimal(0))
    _ask(ledger, "r1", usd_per_hour=Decimal(0))


def test_without_a_cap_the_project_only_counts(ledger: Ledger) -> None:
    _ask(ledger, "r1")
    assert ledger.project_left_usd() is None
    assert ledger.project().committed_usd == Decimal(4)
    ledger.set_project_cap(Decimal(9))
    ledger.set_project_cap(None)
    assert ledger.project().max_usd is None


# -- watchers ---------------------------------------------------------------------------------


def test_a_watcher_is_present_until_it_leaves_or_falls_silent(ledger: Ledger, hands: Hands) -> None:
    ledger.be_present("a", 100)
    ledger.be_present("b", 200)
    assert ledger.watchers() == ["a", "b"]
    hands.at += 150
    assert ledger.watchers() == ["b"]
    ledger.release_all("b")
    assert ledger.watchers() == []


# -- leases -----------------------------------------------------------------------------------


def test_one_holder_at_a_time(ledger: Ledger, lease: Lease, hands: Hands) -> None:
    assert ledger.take_lease("r1", "b", 120) is None
    hands.at = lease.expires_at
    taken = ledger.take_lease("r1", "b", 120)
    assert taken is not None
    assert taken.token > lease.token


def test_a_holder_renews_its_lease_under_the_same_token(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    hands.at += 100
    renewed = ledger.take_lease("r1", "a", 120)
    assert renewed == replace(lease, expires_at=hands.at + 120)
    ledger.check_lease(lease)


def test_a_lease_that_has_run_out_is_renewed_only_if_nobody_else_had_the_run(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    hands.at = lease.expires_at + 1
    renewed = ledger.renew_lease(lease, 120)
    hands.at = renewed.expires_at + 1
    other = ledger.take_lease("r1", "b", 1)
    assert other is not None
    ledger.release_lease(other)
    with pytest.raises(LeaseLostError):
        ledger.renew_lease(renewed, 120)
    assert ledger.remember([(renewed, sample_attempt())], 120) == []


def test_a_released_lease_is_free_at_once(ledger: Ledger, lease: Lease) -> None:
    assert ledger.watcher("r1") == "a"
    ledger.release_lease(lease)
    assert ledger.watcher("r1") is None
    assert ledger.take_lease("r1", "b", 120) is not None


def test_a_late_release_does_not_end_somebody_elses_lease(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    hands.at = lease.expires_at
    taken = ledger.take_lease("r1", "b", 120)
    ledger.release_lease(lease)
    assert taken is not None
    ledger.check_lease(taken)


def _end_run(ledger: Ledger, lease: Lease) -> None:
    ledger.end_run(lease, RunState.DONE, "")


def _add_attempt(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt(number=2, name="kwz-me-r1-2"))


def _update_attempt(ledger: Ledger, lease: Lease) -> None:
    ledger.update_attempt(lease, sample_attempt(), state=AttemptState.CLOSED)


@pytest.mark.parametrize("change", [_end_run, _add_attempt, _update_attempt])
@pytest.mark.parametrize("taken_over", [True, False])
def test_a_watcher_that_lost_its_lease_changes_nothing(
    ledger: Ledger, lease: Lease, hands: Hands, change: object, taken_over: bool
) -> None:
    assert callable(change)
    ledger.add_attempt(lease, sample_attempt())
    hands.at = lease.expires_at
    if taken_over:
        ledger.take_lease("r1", "b", 120)
    before = (ledger.run("r1"), ledger.attempts("r1"))
    with pytest.raises(LeaseLostError):
        change(ledger, lease)
    assert (ledger.run("r1"), ledger.attempts("r1")) == before


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
