"""What a run can have now: asked for seldom, and never in the way when nobody answers."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from decimal import Decimal

import pytest

from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import Prospect, RunRecord
from kwanzaa_compute.runs.supply import LOOK_S, NOTICE_S, Buyer
from kwanzaa_compute.testing import FakeClock, FakeCloud, Trace
from kwanzaa_compute.testing.samples import sample_offer, sample_run

SPOT = sample_offer(id="spot", spot=True, region="south", usd_per_hour=Decimal("0.25"))
FIRM = sample_offer(id="firm")
AWAY = sample_offer(provider="away", id="far")


class Counting(FakeCloud):
    """A cloud that counts how often it is asked what it sells, and may not answer."""

    asked = 0
    silent = False

    def offers(self) -> Iterable[Offer]:
        self.asked += 1
        if self.silent:
            raise OSError("nobody answers")
        return super().offers()


class World:
    def __init__(self, ledger: Ledger, cloud: Counting) -> None:
        self.ledger, self.cloud = ledger, cloud
        self.buyer = Buyer(ledger, self._provider, cloud.clock.clock())

    def _provider(self, name: str) -> Provider:
        if name != "fake":
            raise UsageError(f"provider {name} is not installed here")
        return self.cloud.provider(RetryPolicy(attempts=1, deadline_s=None))

    def run(self, deadline_h: float | None, *offers: Offer) -> RunRecord:
        at = None if deadline_h is None else self.cloud.clock.at + deadline_h * 3600
        made = [Prospect(offer, 600.0, 3600.0, 60.0) for offer in offers or (SPOT, FIRM)]
        run = sample_run(
            created_at=self.cloud.clock.at, deadline_at=at, candidates=dump_prospects(made)
        )
        self.ledger.add_run(run)
        return run


@pytest.fixture
def world() -> Iterator[World]:
    clock = FakeClock()
    cloud = Counting(offers=[SPOT, FIRM], clock=clock, trace=Trace([False, True], 600.0))
    with closing(Ledger("file:/supply?vfs=memdb", clock.clock())) as ledger:
        yield World(ledger, cloud)


def test_without_a_deadline_nobody_is_asked(world: World) -> None:
    supply = world.buyer.supply(world.run(None))
    assert [p.offer for p in supply.prospects] == [SPOT, FIRM]
    assert world.cloud.asked == 0


def test_with_a_deadline_what_is_sold_out_is_known(world: World) -> None:
    run = world.run(5.0)
    first = world.buyer.supply(run).prospects
    assert [p.offer.availability for p in first] == [Availability.SOLD_OUT, Availability.AVAILABLE]
    world.cloud.clock.sleep(600.0)
    later = world.buyer.supply(run).prospects
    assert [p.offer.availability for p in later] == [Availability.AVAILABLE] * 2


def test_a_provider_is_asked_once_in_a_while_however_often_runs_look(world: World) -> None:
    run = world.run(5.0)
    for _ in range(10):
        world.buyer.supply(run)
        world.cloud.clock.sleep(LOOK_S / 5)
    assert world.cloud.asked == 2


def test_a_provider_that_does_not_answer_is_noted_and_stays_a_choice(world: World) -> None:
    world.cloud.silent = True
    supply = world.buyer.supply(world.run(5.0))
    assert [p.offer for p in supply.prospects] == [SPOT, FIRM]
    assert [event.kind for event in world.ledger.events("r1")] == ["provider"]


def test_a_provider_that_is_not_here_is_noted_and_left_out(world: World) -> None:
    supply = world.buyer.supply(world.run(5.0, SPOT, AWAY))
    assert [p.offer.id for p in supply.prospects] == ["spot"]
    assert "away" in world.ledger.events("r1")[0].message


def test_a_change_of_machines_takes_the_slowest_providers_settling_and_a_look(
    world: World,
) -> None:
    info = world.cloud.info
    supply = world.buyer.supply(world.run(5.0))
    assert supply.stop_reserve_s == info.stop_reserve_s + info.settle_s
    assert supply.handover_s == supply.stop_reserve_s + NOTICE_S
