"""Against the real Lambda Cloud: `-m live`, with LAMBDA_API_KEY. At most ten cents.

The first test reads prices and machines and costs nothing. The second rents the cheapest machine
that costs at most a dollar an hour, looks whether it is found by its name, and ends it at once:
about two minutes, so at most four cents. It is skipped where nothing so cheap is for sale.
"""

import os
import secrets
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.market.offers import Availability
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_lambda_cloud import kwanzaa_providers
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver

pytestmark = pytest.mark.live
CAP_USD = Decimal("0.10")
MOST_USD_PER_HOUR = Decimal("1.00")
PATIENCE_S = 240.0


@pytest.fixture
def account(tmp_path: Path) -> Callable[[str], Provider]:
    """The provider, once a test has said what it is about to do."""

    def provider(what: str) -> Provider:
        sys.stderr.write(f"\nlive: {what}\n")
        if not os.environ.get("LAMBDA_API_KEY"):
            pytest.skip(f"LAMBDA_API_KEY is not set; this would {what}")
        environment = {**os.environ, "KWANZAA_HOME": str(tmp_path)}
        (info,) = kwanzaa_providers()
        return Provider(info, LambdaDriver(DriverContext(environment, Clock())), Clock())

    return provider


def test_prices_and_machines_can_be_read(account: Callable[[str], Provider]) -> None:
    provider = account("read prices and the list of machines: two requests, $0")
    offers = provider.offers()
    assert offers
    assert [offer.id for offer in offers if offer.gpu.vram_gib == 0] == []
    provider.fleet()


def test_a_machine_is_launched_found_by_name_and_ended(
    account: Callable[[str], Provider],
) -> None:
    provider = account(f"rent the cheapest machine for about two minutes, less than ${CAP_USD}")
    cheap = [
        offer
        for offer in provider.offers()
        if offer.availability is Availability.AVAILABLE
        and offer.usd_per_hour is not None
        and offer.usd_per_hour <= MOST_USD_PER_HOUR
    ]
    if not cheap:
        pytest.skip(f"nothing is for sale at ${MOST_USD_PER_HOUR}/h or less")
    offer = min(cheap, key=lambda offer: offer.usd_per_hour or MOST_USD_PER_HOUR)
    assert (offer.usd_per_hour or 0) * Decimal(PATIENCE_S) / 3600 <= CAP_USD
    name = f"kwz-live-{secrets.token_hex(4)}-1"
    clock = Clock()
    began = clock.monotonic()
    try:
        machine_id = provider.launch(sample_job(name=name, argv=("sleep", "600")), offer)
        assert name in [seen.name for seen in provider.fleet()]
        assert provider.inspect(machine_id).phase is not Phase.GONE
    finally:
        while left := [seen for seen in provider.fleet() if seen.name == name]:
            for seen in left:
                provider.terminate(seen.machine_id)
            if clock.monotonic() - began > PATIENCE_S:
                pytest.fail(f"{name} MAY STILL BE BILLING: https://cloud.lambda.ai/instances")
            clock.sleep(5)
