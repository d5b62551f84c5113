"""The ledger's connection, its transactions, and the leases that say who may write what."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import LeaseLostError
from kwanzaa_compute.failpoint import failpoint
from kwanzaa_compute.runs import schema
from kwanzaa_compute.runs.migrations import MIGRATIONS
from kwanzaa_compute.runs.records import Lease

_OURS = "run_id = ? AND token = ? AND holder = ?"


class Leases:
    """One connection to the ledger's file, and the right of one watcher at a time to each run."""

    def __init__(self, path: Path | str, clock: Clock) -> None:
        """Opens or creates the ledger at `path`, mode 0600; a newer schema is refused."""
        self._clock = clock
        self._db = schema.connect(path)
        if schema.version(self._db) != len(MIGRATIONS):  # who only reads waits for nobody
            with self._transaction():
                schema.migrate(self._db)

    def close(self) -> None:
        """Releases the database."""
        self._db.close()

    def take_lease(self, run_id: str, holder: str, ttl_s: float) -> Lease | None:
        """Takes or renews the lease on a run; None while another holder's has not expired."""
        with self._transaction():
            return self._take(run_id, holder, ttl_s)

    def _take(self, run_id: str, holder: str, ttl_s: float) -> Lease | None:
        now = self._clock.now()
        row = self._db.execute("SELECT * FROM leases WHERE run_id = ?", (run_id,)).fetchone()
        if row and row["holder"] != holder and row["expires_at"] > now:
            return None
        token = 1 if row is None else row["token"] + (row["holder"] != holder)
        self._db.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET"
            " holder = excluded.holder, token = excluded.token, expires_at = excluded.expires_at",
            (run_id, holder, token, now + ttl_s),
        )
        return Lease(run_id, holder, token, now + ttl_s)

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """Makes a lease last longer, even one that has run out while nobody else took the run.

        Raises `LeaseLostError` where somebody else has had it since: what was seen is stale then.
        """
        until = self._clock.now() + ttl_s
        with self._transaction():
            if not self._renewed(lease, until):
                raise _lost(lease)
        return replace(lease, expires_at=until)

    def _renewed(self, lease: Lease, until: float) -> bool:
        changed = self._db.execute(
            f"UPDATE leases SET expires_at = ? WHERE {_OURS} AND expires_at > 0",  # noqa: S608
            (until, lease.run_id, lease.token, lease.holder),
        )
        return changed.rowcount == 1

    def release_lease(self, lease: Lease) -> None:
        """Lets another watcher take over at once."""
        with self._transaction():
            self._db.execute(
                f"UPDATE leases SET expires_at = 0 WHERE {_OURS}",  # noqa: S608 -- a constant
                (lease.run_id, lease.token, lease.holder),
            )

    def expire_leases(self, run_id: str) -> None:
        """Takes the run from whoever watches it: fencing makes that safe, if rude."""
        with self._transaction():
            self._db.execute("UPDATE leases SET expires_at = 0 WHERE run_id = ?", (run_id,))

    def check_lease(self, lease: Lease) -> None:
        """Raises `LeaseLostError` unless the lease still holds: ask before touching a machine."""
        row = self._db.execute(
            f"SELECT 1 FROM leases WHERE {_OURS} AND expires_at > ?",  # noqa: S608 -- a constant
            (lease.run_id, lease.token, lease.holder, self._clock.now()),
        ).fetchone()
        if row is None:
            raise _lost(lease)

    def watcher(self, run_id: str) -> str | None:
        """Who holds an unexpired lease on the run; None where nobody watches it."""
        row = self._db.execute(
            "SELECT holder FROM leases WHERE run_id = ? AND expires_at > ?",
            (run_id, self._clock.now()),
        ).fetchone()
        return row["holder"] if row else None

    def be_present(self, holder: str, ttl_s: float) -> None:
        """Says that this watcher sees all open runs through, and will for so many seconds."""
        now = self._clock.now()
        with self._transaction():
            self._db.execute("DELETE FROM watchers WHERE expires_at <= ?", (now,))
            self._db.execute("INSERT OR REPLACE INTO watchers VALUES (?, ?)", (holder, now + ttl_s))

    def release_all(self, holder: str) -> None:
        """Lets go of every run that this watcher holds, and says that it leaves."""
        with self._transaction():
            self._db.execute("UPDATE leases SET expires_at = 0 WHERE holder = ?", (holder,))
            self._db.execute("DELETE FROM watchers WHERE holder = ?", (holder,))

    def watchers(self) -> list[str]:
        """The watchers that see all open runs through just now."""
        query = "SELECT holder FROM watchers WHERE expires_at > ? ORDER BY holder"
        return [row[0] for row in self._db.execute(query, (self._clock.now(),))]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        failpoint("ledger.begin")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            failpoint("ledger.commit")
            self._db.execute("COMMIT")
            failpoint("ledger.committed")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[None]:
        with self._transaction():
            self.check_lease(lease)
            yield


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f"another watcher has taken over run {lease.run_id}", mend=f"kwanzaa show {lease.run_id}"
    )
