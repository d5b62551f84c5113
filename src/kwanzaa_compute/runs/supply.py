"""What a run can have now: the plan's prospects that can be reached from here, at today's price."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Deadline, ProviderInfo
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import KwanzaaError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.candidates import as_of_now, load_prospects
from kwanzaa_compute.runs.deadlines import reason_to_leave
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptRecord, Prospect, RunRecord
from kwanzaa_compute.runs.recovery import may_wait, usable

Shelf = Mapping[tuple[str, str, str], Offer]
"""What one provider sells now, by place."""

LOOK_S = 120.0
"""A provider is asked what it sells at most so often, however many runs wait for it."""
NOTICE_S = 60.0
"""Until a watcher notices that a machine is gone: what it polls, rounded up."""


@dataclass(frozen=True, slots=True)
class Supply:
    """A run's prospects, best first, and how long a change of machines takes, in seconds."""

    prospects: list[Prospect]
    stop_reserve_s: float
    """We count an attempt as billed until its absence is proven: a settle window longer."""

    @property
    def handover_s(self) -> float:
        """From the loss of a machine until the next one can be launched."""
        return self.stop_reserve_s + NOTICE_S


def reserve_s(info: ProviderInfo) -> float:
    """Seconds of billing that are kept back from the cap for a machine's end.

    We count it as billed until its absence is proven, a settle window later. A limit that the
    machine itself keeps begins with our first instruction only: with every watcher dead it lives
    a boot longer, so no driver's own figure is taken for less than its boot.
    """
    ends_s = info.stop_reserve_s
    if info.deadline is not Deadline.BY_PROVIDER:
        ends_s = max(ends_s, info.boot_s)
    return ends_s + info.settle_s


class Buyer:
    """Finds out what runs can have; asks for prices only where a deadline lets them wait."""

    def __init__(self, ledger: Ledger, provider: Callable[[str], Provider], clock: Clock) -> None:
        """Takes the same parts as the supervisor."""
        self._ledger = ledger
        self._provider = provider
        self._clock = clock
        self._shelves: dict[str, tuple[float, Shelf]] = {}

    def supply(self, run: RunRecord) -> Supply:
        """What this run can have; a provider that is not here is noted and left out."""
        known = load_prospects(run.candidates)
        infos = {}
        for name in dict.fromkeys(p.offer.provider for p in known):
            try:
                infos[name] = self._provider(name).info
            except KwanzaaError as error:
                self._ledger.note(run.id, "provider", error.message)
        found = [p for p in known if p.offer.provider in infos]
        if may_wait(run, self._clock.now()):
            for name in infos:
                found = as_of_now(found, self._for_sale(run.id, name))
        return Supply(found, max(map(reserve_s, infos.values()), default=0.0))

    def better_than(self, run: RunRecord, attempt: AttemptRecord) -> str:
        """Why a run should leave a machine that works, in words; empty: it should not."""
        now = self._clock.now()
        if not may_wait(run, now):
            return ""
        supply, attempts = self.supply(run), self._ledger.attempts(run.id)
        attempts[-1] = attempt
        found = usable(run, attempts, supply.prospects, now)
        return reason_to_leave(run, attempts, found, now, supply.handover_s)

    def _for_sale(self, run_id: str, name: str) -> Shelf:
        """What a provider sells, as it said lately; nothing is known where it cannot be asked."""
        now = self._clock.now()
        asked_at, shelf = self._shelves.get(name, (-LOOK_S, {}))
        if now - asked_at < LOOK_S:
            return shelf
        try:
            shelf = {(o.provider, o.id, o.region): o for o in self._provider(name).offers()}
        except KwanzaaError as error:
            self._ledger.note(run_id, "provider", error.message)
            shelf = {}
        self._shelves[name] = now, shelf
        return shelf
