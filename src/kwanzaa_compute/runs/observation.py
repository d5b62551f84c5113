"""One look at an attempt: the provider's view first, then the trainer's, from the store.

The order matters. A command that was seen EXITED *before* the store was read, without a done
marker or a failure record there, has truly left none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import KwanzaaError, StoreError
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptRecord, AttemptState, RunRecord
from kwanzaa_compute.store import Failure, Heartbeat, RunFolder, Store

Fleets = dict[str, Sequence[Sighting] | None]
"""What each provider listed in this sweep; None: it could not be asked, and is not asked again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an attempt; `doubles` are other machines that bear its name."""

    sighting: Sighting | None
    doubles: tuple[str, ...]
    heartbeat: Heartbeat | None = None
    failure: Failure | None = None
    done: bool = False


class Observer:
    """Looks at attempts and remembers what could not be seen."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Callable[[str], Provider],
        open_store: Callable[[str], Store],
    ) -> None:
        """Takes the same parts as the supervisor."""
        self._ledger = ledger
        self._provider = provider
        self._open_store = open_store

    def look(self, run: RunRecord, attempt: AttemptRecord, fleets: Fleets) -> Seen:
        """What can be known of an attempt now. Errors are noted; they never mean "gone"."""
        sighting, doubles = self._sight(attempt, fleets)
        if attempt.state is not AttemptState.LIVE:
            return Seen(sighting, doubles)
        folder = RunFolder(self._open_store(run.store_url))
        try:
            # The done marker last: whatever the machine wrote before it is then there as well.
            return Seen(
                sighting,
                doubles,
                heartbeat=folder.heartbeat(attempt.number),
                failure=folder.failure(attempt.number),
                done=folder.done() is not None,
            )
        except StoreError as error:
            self._ledger.note(run.id, "store", error.message)
            # Without the store an exit cannot be told from a success: look again next time.
            return Seen(None, doubles)

    def _sight(
        self, attempt: AttemptRecord, fleets: Fleets
    ) -> tuple[Sighting | None, tuple[str, ...]]:
        """What the provider says of an attempt's machine, and ids of others of the same name."""
        try:
            provider = self._provider(attempt.provider)
            if attempt.provider not in fleets:
                fleets[attempt.provider] = None  # should it fail, ask once a sweep, not once a run
                fleets[attempt.provider] = provider.fleet()
            fleet = fleets[attempt.provider]
            if fleet is None:
                return None, ()
            named = [s for s in fleet if s.name == attempt.name]
            mine = [s for s in named if s.machine_id == attempt.machine_id] or (
                named if not attempt.machine_id else []
            )
            doubles = tuple(s.machine_id for s in named if s not in mine[:1])
            if mine:
                return mine[0], doubles
            if attempt.machine_id:
                return provider.inspect(attempt.machine_id), doubles
            return Sighting("", Phase.GONE, attempt.name), doubles
        except KwanzaaError as error:
            self._ledger.note(attempt.run_id, "provider", error.message)
            return None, ()
