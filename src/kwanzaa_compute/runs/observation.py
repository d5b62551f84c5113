"""One look at an attempt: the provider's view first, then the trainer's, from the store.

The order matters. A command that was seen EXITED *before* the store was read, without a done
marker or a failure record there, has truly left none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import KwanzaaError
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptRecord, AttemptState, RunRecord
from kwanzaa_compute.store import Failure, Heartbeat, RunFolder, Store

_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class Listing:
    """What a provider listed, by name, when it was asked at `asked_at` (epoch seconds)."""

    asked_at: float
    by_name: Mapping[str, Sequence[Sighting]]


Fleets = dict[str, Listing | None]
"""What each provider listed in this sweep; None: it could not be asked, and is not asked again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an attempt; `doubles` are other machines that bear its name."""

    sighting: Sighting | None
    doubles: tuple[str, ...] = ()
    asked_at: float = 0.0
    """When the provider was asked. A sweep's listing may be older than what it is held against."""
    looked_at: float = 0.0
    """When this look began: a heartbeat that was read slowly may be older than its arrival."""
    heartbeat: Heartbeat | None = None
    failure: Failure | None = None
    done: bool = False
    store_read: bool = True


class Observer:
    """Looks at attempts and remembers what could not be seen."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Callable[[str], Provider],
        open_store: Callable[[str], Store],
        clock: Clock,
    ) -> None:
        """Takes the same parts as the supervisor."""
        self._ledger = ledger
        self._provider = provider
        self._open_store = open_store
        self._clock = clock

    def look(self, run: RunRecord, attempt: AttemptRecord, fleets: Fleets) -> Seen:
        """What can be known of an attempt now. An error is noted; it never means "gone"."""
        looked_at = self._clock.now()
        seen = self._sight(attempt, fleets)
        if attempt.state is not AttemptState.LIVE:
            return replace(seen, looked_at=looked_at)
        try:
            folder = RunFolder(self._open_store(run.store_url))
            # The done marker last: whatever the machine wrote before it is then there as well.
            return Seen(
                seen.sighting,
                seen.doubles,
                seen.asked_at,
                looked_at,
                heartbeat=sound_beat(folder.heartbeat(attempt.number)),
                failure=_sound_failure(folder.failure(attempt.number)),
                done=folder.done() is not None,
            )
        except KwanzaaError as error:
            self._ledger.note(run.id, "store", error.message)
            return replace(seen, looked_at=looked_at, store_read=False)

    def _sight(self, attempt: AttemptRecord, fleets: Fleets) -> Seen:
        """What the provider says of an attempt's machine, and of others of the same name."""
        try:
            provider = self._provider(attempt.provider)
            listing = self._listing(provider, fleets)
            if listing is None:
                return Seen(None)
            named = listing.by_name.get(attempt.name, ())
            mine = [s for s in named if s.machine_id == attempt.machine_id] or (
                named if not attempt.machine_id else []
            )
            doubles = tuple(s.machine_id for s in named if s not in mine[:1])
            if mine:
                return Seen(mine[0], doubles, listing.asked_at)
            if attempt.machine_id:
                return Seen(provider.inspect(attempt.machine_id), doubles, listing.asked_at)
            return Seen(Sighting("", Phase.GONE, attempt.name), doubles, listing.asked_at)
        except KwanzaaError as error:
            self._ledger.note(attempt.run_id, "provider", error.message)
            return Seen(None)

    def _listing(self, provider: Provider, fleets: Fleets) -> Listing | None:
        """The provider's machines by name, asked for once a sweep and not once a run."""
        if provider.name not in fleets:
            fleets[provider.name] = None  # should it fail, it is not asked again in this sweep
            asked_at = self._clock.now()
            by_name: dict[str, list[Sighting]] = {}
            for sighting in provider.fleet():
                by_name.setdefault(sighting.name, []).append(sighting)
            fleets[provider.name] = Listing(asked_at, by_name)
        return fleets[provider.name]


def sound_beat(beat: Heartbeat | None) -> Heartbeat | None:
    """The heartbeat, unless it holds what no trainer writes: machines are not trusted."""
    if beat is None or not isinstance(beat.phase, str):
        return None
    counts = all(
        type(n) is int and abs(n) < _MOST for n in (beat.sequence, beat.step, beat.total_steps)
    )
    if not counts or not isinstance(beat.checkpoint, str | None):
        return None
    interval_s = beat.interval_s
    if interval_s is None or (type(interval_s) in {int, float} and 0 < interval_s < _MOST):
        return beat
    return replace(beat, interval_s=None)


def _sound_failure(failure: Failure | None) -> Failure | None:
    """The failure record, unless it holds what no trainer writes."""
    return failure if failure is not None and isinstance(failure.message, str) else None
