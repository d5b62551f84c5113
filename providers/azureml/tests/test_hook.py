"""Importing the package is cheap, and so is asking what is for sale."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from kwanzaa_compute_azureml.driver import AzureMLDriver
from kwanzaa_compute_azureml.simulator import AzureMLSimulator

LOOK = """
import sys
import {module}
heavy = ("azure", "msal", "opentelemetry", "requests", "cryptography", "obstore", "httpx2")
print([name for name in heavy if name in sys.modules])
"""
SELL = """
import json, sys
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute_azureml.driver import AzureMLDriver
driver = AzureMLDriver(DriverContext(json.load(sys.stdin), Clock(), sys.argv[1]))
print(len(list(driver.offers())), [name for name in ("azure", "msal") if name in sys.modules])
"""


@pytest.mark.parametrize("module", ["kwanzaa_compute_azureml", "kwanzaa_compute_azureml.driver"])
def test_no_sdk_is_imported_before_it_is_used(module: str) -> None:
    code = LOOK.format(module=module)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_is_for_sale_is_asked_without_the_sdk_and_without_an_account(
    simulator: AzureMLSimulator, driver: AzureMLDriver
) -> None:
    """So the first offers take no longer than the answer of one web page."""
    import json

    names = ("KWANZAA_AZUREML_REGION", "SSL_CERT_FILE")
    environment = {name: simulator.environment[name] for name in names}
    out = subprocess.run(
        [sys.executable, "-c", SELL, simulator.endpoint],
        input=json.dumps(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.split() == [str(len(list(driver.offers()))), "[]"]
    asked = [request for request, _ in simulator.server.exchanges]
    assert all("authorization" not in request.headers for request in asked)


def test_a_cluster_is_sold_at_low_priority_and_serverless_at_spot(
    simulator: AzureMLSimulator, driver_of: Callable[..., AzureMLDriver]
) -> None:
    """Azure has two prices for machines that it may take back."""
    for compute, meter in (("serverless", "spot"), ("cluster", "low priority")):
        offers = driver_of(simulator, KWANZAA_AZUREML_COMPUTE=compute).offers()
        assert {o.source for o in offers if o.spot} == {f"Azure retail prices, {meter}"}
