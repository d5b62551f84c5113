"""The ledger: what was intended, what was spent, who watches. SQLite, safe among many processes.

Every change is one `BEGIN IMMEDIATE` transaction (a deferred one fails under load), and every
change by a watcher is fenced: it happens only while that watcher holds the run's lease.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from kwanzaa_compute.errors import BudgetError, KwanzaaError, UsageError
from kwanzaa_compute.market.speed import SpeedReceipt
from kwanzaa_compute.runs import outbox
from kwanzaa_compute.runs.leases import Leases
from kwanzaa_compute.runs.outbox import Notice
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    Event,
    Held,
    Lease,
    Project,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.rows import ATTEMPTS, RUNS, dollars, micro, text
from kwanzaa_compute.runs.spending import asked_usd, committed_usd, spent_usd

_SEEN = (
    "beat_sequence",
    "beat_changed_at",
    "phase",
    "step",
    "total_steps",
    "checkpoint",
    "absent_since",
    "exit_code",
)
"""What a look can change of an attempt; everything else is a decision."""


class Ledger(Leases):
    """All runs and attempts of one user on one machine. Open it in every process that needs it."""

    # -- runs ---------------------------------------------------------------------------------

    def add_run(self, run: RunRecord) -> None:
        """Remembers a run before anything is spent on it."""
        with self._transaction():
            self._db.execute(RUNS.insert, RUNS.written(run))

    def import_runs(self, found: Iterable[tuple[RunRecord, Sequence[AttemptRecord]]]) -> None:
        """Enters runs with their attempts, as they were kept elsewhere, all in one transaction."""
        with self._transaction():
            for run, attempts in found:
                self._db.execute(RUNS.insert, RUNS.written(run))
                for attempt in attempts:
                    self._db.execute(ATTEMPTS.insert, ATTEMPTS.written(attempt))

    def run(self, run_id: str) -> RunRecord:
        """The run of this id, or of a unique beginning of it; `UsageError` where there is none."""
        exact = self._db.execute(f"{RUNS.select} WHERE id = ?", (run_id,)).fetchone()
        if exact:
            return RUNS.read(exact)
        escaped = run_id.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        rows = self._db.execute(
            rf"{RUNS.select} WHERE id LIKE ? ESCAPE '\' LIMIT 2", (f"{escaped}%",)
        ).fetchall()
        if not rows:
            raise UsageError(f"there is no run {run_id!r}", mend=self._similar(run_id))
        if len(rows) > 1:
            raise UsageError(f"{run_id!r} begins the names of several runs", mend="kwanzaa runs")
        return RUNS.read(rows[0])

    def runs(self, *, only_open: bool = False) -> list[RunRecord]:
        """All runs, or those that are not final, newest first."""
        where = "WHERE state = 'running'" if only_open else ""
        query = f"{RUNS.select} {where} ORDER BY created_at DESC, id"
        return [RUNS.read(row) for row in self._db.execute(query)]

    def open_runs(self) -> list[str]:
        """The ids of all runs that are not final, newest first."""
        query = "SELECT id FROM runs WHERE state = 'running' ORDER BY created_at DESC, id"
        return [row[0] for row in self._db.execute(query)]

    def set_wish(self, run_id: str, wish: Wish) -> None:
        """What the user wants; needs no lease, for it binds whoever holds it."""
        with self._transaction():
            run = self.run(run_id)
            if run.wish is Wish.TERMINATE and wish is Wish.STOP:
                return  # an end that was asked for at once does not wait for a checkpoint
            self._db.execute("UPDATE runs SET wish = ? WHERE id = ?", (wish, run.id))

    def reopen(self, run_id: str, *, candidates: str, max_usd: Decimal | None) -> None:
        """Makes a final run RUNNING again, with fresh candidates and cap."""
        cap = None if max_usd is None else micro("max_usd", max_usd)
        with self._transaction():
            if self.run(run_id).state is RunState.RUNNING:
                raise UsageError(f"run {run_id} is still running", mend=f"kwanzaa resume {run_id}")
            self._db.execute(
                "UPDATE runs SET state = 'running', wish = 'run', reason = '', ended_at = NULL,"
                " candidates = ?, max_usd = ?, resumed_at = ? WHERE id = ?",
                (candidates, cap, self._clock.now(), run_id),
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
            outbox.post_end(self._db, lease.run_id, state, text(reason), self._clock.now())

    # -- attempts -----------------------------------------------------------------------------

    def add_attempt(self, lease: Lease, attempt: AttemptRecord) -> None:
        """Writes the intent to launch. It is durable when this returns, before any money flows.

        Raises `BudgetError` where the project's cap does not cover it beside all other attempts:
        asked and written in one transaction, so two runs never take the same dollars.
        """
        with self._fenced(lease):
            open_already = self._db.execute(
                "SELECT 1 FROM attempts WHERE run_id = ? AND state <> 'closed'", (attempt.run_id,)
            ).fetchone()
            if open_already:
                raise KwanzaaError("a run has one open attempt at a time")
            left = self.project_left_usd() if attempt.usd_per_hour else None
            if left is not None and asked_usd(attempt) > left:
                raise BudgetError(
                    f"only ${max(left, Decimal(0)):.2f} of the project's cap are not taken",
                    mend="wait until other runs have ended, or raise it: kwanzaa cap --max-usd",
                )
            self._db.execute(ATTEMPTS.insert, ATTEMPTS.written(attempt))

    def update_attempt(self, lease: Lease, attempt: AttemptRecord, **changes: Any) -> AttemptRecord:
        """Writes some fields of an attempt, and returns the attempt with them."""
        changed = replace(attempt, **changes)
        names = tuple(changes)
        places = ", ".join(f"{name} = ?" for name in names)
        with self._fenced(lease):
            self._db.execute(
                f"UPDATE attempts SET {places} WHERE run_id = ? AND number = ?",  # noqa: S608 -- field names
                (*ATTEMPTS.written(changed, names), attempt.run_id, attempt.number),
            )
        return changed

    def remember(self, looks: Sequence[tuple[Lease, AttemptRecord]], ttl_s: float) -> list[Lease]:
        """Writes what looks have shown of attempts, all in one transaction, and renews the leases.

        Returns the leases that hold. Of a run that somebody else has had since, nothing is written.
        """
        now = self._clock.now()
        places = ", ".join(f"{name} = ?" for name in _SEEN)
        held: list[Lease] = []
        with self._transaction():
            for lease, attempt in looks:
                if not self._renewed(lease, now + ttl_s):
                    continue
                held.append(Lease(lease.run_id, lease.holder, lease.token, now + ttl_s))
                self._db.execute(
                    f"UPDATE attempts SET {places} WHERE run_id = ? AND number = ?",  # noqa: S608
                    (*ATTEMPTS.written(attempt, _SEEN), attempt.run_id, attempt.number),
                )
        return held

    def attempts(self, run_id: str) -> list[AttemptRecord]:
        """The run's attempts, oldest first."""
        query = f"{ATTEMPTS.select} WHERE run_id = ? ORDER BY number"
        return [ATTEMPTS.read(row) for row in self._db.execute(query, (run_id,))]

    def last_attempt(self, run_id: str) -> AttemptRecord | None:
        """The run's newest attempt; None before its first."""
        query = f"{ATTEMPTS.select} WHERE run_id = ? ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query, (run_id,)).fetchone()
        return None if row is None else ATTEMPTS.read(row)

    def attempt_named(self, name: str) -> AttemptRecord | None:
        """The attempt whose machine bears this name; None where there is none."""
        row = self._db.execute(f"{ATTEMPTS.select} WHERE name = ?", (name,)).fetchone()
        return None if row is None else ATTEMPTS.read(row)

    def providers(self) -> set[str]:
        """The providers that were ever asked for a machine."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT provider FROM attempts")}

    def open_attempts(self) -> list[AttemptRecord]:
        """Every attempt that may still cost money."""
        query = f"{ATTEMPTS.select} WHERE state <> 'closed' ORDER BY intended_at"
        return [ATTEMPTS.read(row) for row in self._db.execute(query)]

    # -- the project --------------------------------------------------------------------------

    def project(self) -> Project:
        """The cap on all runs together, and what they have cost and may cost."""
        row = self._db.execute("SELECT max_usd FROM project").fetchone()
        now = self._clock.now()
        query = f"{ATTEMPTS.select} WHERE usd_per_hour > 0"
        attempts = [ATTEMPTS.read(row) for row in self._db.execute(query)]
        committed = sum((committed_usd(attempt, now) for attempt in attempts), Decimal(0))
        return Project(dollars(row[0]) if row else None, spent_usd(attempts, now), committed)

    def project_left_usd(self) -> Decimal | None:
        """What the project's cap leaves to commit; None where there is no cap."""
        capped = self._db.execute("SELECT 1 FROM project").fetchone()
        return self.project().left_usd if capped else None

    def set_project_cap(self, max_usd: Decimal | None) -> None:
        """Caps what all runs may cost together, those of the past included; None: no cap."""
        with self._transaction():
            self._db.execute("DELETE FROM project")
            if max_usd is not None:
                self._db.execute("INSERT INTO project VALUES (?)", (micro("max_usd", max_usd),))

    # -- leases -------------------------------------------------------------------------------

    def take_leases(self, run_ids: Sequence[str], holder: str, ttl_s: float) -> list[Held]:
        """The same for many runs in one transaction: those that are ours now, as they stand."""
        with self._transaction():
            taken = [self._take(run_id, holder, ttl_s) for run_id in run_ids]
            leases = [lease for lease in taken if lease is not None]
            runs, newest = self._as_they_stand([lease.run_id for lease in leases])
        return [Held(lease, runs[lease.run_id], newest.get(lease.run_id)) for lease in leases]

    def _as_they_stand(
        self, run_ids: Sequence[str]
    ) -> tuple[dict[str, RunRecord], dict[str, AttemptRecord]]:
        """These runs and the newest attempt of each, by the runs' ids, in two queries for all."""
        these = f"IN ({', '.join('?' * len(run_ids))})"
        runs = self._db.execute(f"{RUNS.select} WHERE id {these}", run_ids)
        attempts = self._db.execute(
            f"{ATTEMPTS.select} AS it WHERE run_id {these} AND number ="  # noqa: S608 -- marks
            " (SELECT max(number) FROM attempts WHERE run_id = it.run_id)",
            run_ids,
        )
        return (
            {run.id: run for run in map(RUNS.read, runs)},
            {attempt.run_id: attempt for attempt in map(ATTEMPTS.read, attempts)},
        )

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
                    text(message),
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
            outbox.post(self._db, Notice(run_id, key, kind, text(message), self._clock.now()))

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
                    text(receipt.gpu),
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

    def _similar(self, run_id: str) -> str:
        """What mends a wrong name: the run that was probably meant."""
        names = [row["id"] for row in self._db.execute("SELECT id FROM runs")]
        close = difflib.get_close_matches(run_id, names, n=1)
        return f"did you mean {close[0]}? kwanzaa runs shows all" if close else "kwanzaa runs"
