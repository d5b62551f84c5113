"""Against RunPod itself, with your key and your money: at most ten cents. Run with `-m live -s`.

Nothing here runs by itself. Without RUNPOD_API_KEY each test says what it would have done.
"""

import os
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_runpod import BOOT_S, SETTLE_S, STOP_RESERVE_S, kwanzaa_providers
from kwanzaa_compute_runpod.driver import RunPodDriver

pytestmark = [pytest.mark.live, pytest.mark.enable_socket]

CAP_USD = Decimal("0.10")
MAX_S = 600.0
NAME = "kwz-live-test-1"
HOURS = Decimal(MAX_S + SETTLE_S + STOP_RESERVE_S) / 3600
"""The longest that the machine can bill: its own limit, and until its end is proven."""


@pytest.fixture
def runpod(tmp_path: Path) -> Iterator[Callable[[str], Provider]]:
    """The provider, once a test has said what it is about to do. Ends what the test has left."""
    used: list[Provider] = []

    def provider(what: str) -> Provider:
        sys.stderr.write(f"\nlive: {what}\n")
        if not os.environ.get("RUNPOD_API_KEY"):
            pytest.skip(f"RUNPOD_API_KEY is not set; this would {what}")
        (info,) = kwanzaa_providers()
        environment = {**os.environ, "KWANZAA_HOME": str(tmp_path)}
        used.append(Provider(info, RunPodDriver(DriverContext(environment, Clock())), Clock()))
        return used[-1]

    yield provider
    for one in used:
        for seen in one.fleet():
            if seen.name == NAME:
                one.terminate(seen.machine_id)


def affordable(offers: tuple[Offer, ...]) -> list[Offer]:
    """Offers in stock that stay below the cap however the test ends, the cheapest first."""
    stocked = {Availability.AVAILABLE, Availability.LOW}
    priced = [(o.usd_per_hour, o) for o in offers if o.usd_per_hour and o.availability in stocked]
    return [o for usd, o in sorted(priced, key=lambda p: p[0]) if usd * HOURS < CAP_USD]


def test_the_catalogue_and_the_fleet_can_be_read(runpod: Callable[[str], Provider]) -> None:
    provider = runpod("read the catalogue and the list of pods: three requests, $0")
    assert [offer for offer in provider.offers() if offer.usd_per_hour]
    provider.fleet()


def test_a_machine_ends_itself_with_its_own_key(runpod: Callable[[str], Provider]) -> None:
    """The promise that `Deadline.BY_MACHINE` makes, on the real thing."""
    provider = runpod(f"rent the cheapest GPU in stock for {MAX_S:.0f} s, for less than ${CAP_USD}")
    clock, offers = Clock(), affordable(provider.offers())
    assert offers, "nothing in stock is cheap enough"
    argv = ("python3", "-c", "print('hello', flush=True)")
    job = sample_job(name=NAME, argv=argv, max_hours=MAX_S / 3600, disk_gib=20.0)
    machine_id = provider.launch(job, offers[0])
    last = clock.monotonic() + BOOT_S
    while provider.inspect(machine_id).phase is not Phase.GONE:
        assert clock.monotonic() < last, "it did not end itself: the fixture ends it now"
        clock.sleep(10)
