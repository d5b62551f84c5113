"""What the tests of runs share: a ledger whose clock they move, and worlds with one watcher."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import (
    StoreError,
    UsageError,
)
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import Lease, RunRecord, RunState
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supervisor import Supervisor
from kwanzaa_compute.store import RunFolder, Store
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.samples import sample_offer, sample_run

_names = itertools.count()


class World:
    """A cloud, a ledger and one watcher, with handles on all of it."""

    def __init__(self, **cloud: Any) -> None:
        self.cloud = FakeCloud(offers=[sample_offer(region="north")], **cloud)
        self.clock = self.cloud.clock
        where = f"file:/supervisor{next(_names)}?vfs=memdb"
        self.ledger = Ledger(where, self.clock.clock())
        self.other_ledger = Ledger(where, self.clock.clock())
        self.store_down = False
        self.providers: dict[str, Provider] = {"fake": self.cloud.provider()}
        self.watcher = self.another("a", self.ledger)

    def another(self, holder: str, ledger: Ledger | None = None) -> Supervisor:
        return Supervisor(
            ledger or self.other_ledger,
            self.provider,
            self.open_store,
            self.clock.clock(),
            holder=holder,
            environment={},
        )

    def provider(self, name: str) -> Provider:
        if name not in self.providers:
            raise UsageError(f"provider {name} is not installed here")
        return self.providers[name]

    def open_store(self, url: str) -> Store:
        if self.store_down:
            raise StoreError("the store is down")
        return self.cloud.stores.open(url)

    def add(self, *offers: Offer, **changes: Any) -> RunRecord:
        run = sample_run(*offers, created_at=self.clock.at, **changes)
        self.ledger.add_run(run)
        return run

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.cloud.stores.open("memory://run"))

    def steps(self, until: Callable[[Step], bool], *, every_s: float = 20.0) -> Step:
        for _ in range(2000):
            step = self.watcher.step_once("r1")
            if until(step):
                return step
            self.clock.sleep(every_s)
        raise AssertionError("it never came to that")

    @staticmethod
    def final(step: Step) -> bool:
        return step.run.state is not RunState.RUNNING

    @staticmethod
    def working(step: Step) -> bool:
        return step.heartbeat is not None


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    """Makes worlds; what is said of them goes to their clouds."""
    with ExitStack() as closed:

        def make(**cloud: Any) -> World:
            world = World(**cloud)
            closed.enter_context(closing(world.ledger))
            closed.enter_context(closing(world.other_ledger))
            return world

        yield make


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    """One with a cloud that does its best."""
    return worlds()


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
