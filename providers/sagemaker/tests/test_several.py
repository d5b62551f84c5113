"""Jobs of several instances: what they cost, what each is told, and how they end together."""

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Job, Phase
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import InvalidRequestError, QuotaError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.prices import instances_of, offer_id, offers_of
from kwanzaa_compute_sagemaker.replies import billed
from kwanzaa_compute_sagemaker.request import request_of
from kwanzaa_compute_sagemaker.settings import INSTANCES, MOST_INSTANCES, Settings
from kwanzaa_compute_sagemaker.shapes import SHAPES
from kwanzaa_compute_sagemaker.simulated.account import REGION, ROLE, USD_PER_HOUR, price_list
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator
from kwanzaa_compute_sagemaker.start import machines

Jobs = Callable[..., Job]
NAMES = ("KWANZAA_MACHINES", "KWANZAA_MACHINE", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
TELL = f"""
import os, sys, time
print(*(os.environ.get(name) for name in {NAMES}), flush=True)
if os.environ["KWANZAA_MACHINE"] == sys.argv[1]:
    time.sleep(float(sys.argv[2]))
    sys.exit(int(sys.argv[3]))
time.sleep(float(sys.argv[4]))
"""


@pytest.fixture
def driver(
    simulator: SageMakerSimulator, driver_of: Callable[..., SageMakerDriver]
) -> SageMakerDriver:
    """One whose user has set two instances."""
    return driver_of(simulator, **{INSTANCES: "2"})


def test_an_offer_is_for_all_instances_their_gpus_and_their_price(driver: SageMakerDriver) -> None:
    offers = list(driver.offers())
    assert len(offers) == 2 * len(USD_PER_HOUR)
    for offer in offers:
        instance, count = instances_of(offer.id)
        assert (count, offer.machines) == (2, 2)
        assert offer.id == f"2x-{instance}" + ("-spot" if offer.spot else "")
        assert offer.gpu_count == 2 * SHAPES[instance].count
        assert offer.usd_per_hour == 2 * Decimal(USD_PER_HOUR[instance])


def test_a_price_that_is_unknown_is_so_for_several() -> None:
    good = next(text for text in price_list() if "USE1-Train:ml.g5.2xlarge" in text)
    offers = list(offers_of([good.replace("1.515", "free")], REGION, "now", 3))
    assert [offer.usd_per_hour for offer in offers] == [None, None]


def test_the_number_of_instances_is_part_of_the_request_and_comes_from_what_was_priced(
    job_of: Jobs, driver: SageMakerDriver
) -> None:
    job, words = job_of("kwz-me-n1-1", "true"), {"role": ROLE, "image": "i", "kms_key": ""}
    for offer in driver.offers():
        resources = request_of(job, offer, **words)["ResourceConfig"]
        assert (resources["InstanceType"], resources["InstanceCount"]) == instances_of(offer.id)
        assert offer.id == offer_id(*instances_of(offer.id), spot=offer.spot)


@pytest.mark.parametrize(
    "odd",
    [
        "3x-ml.g4dn.xlarge",
        "ml.g4dn.xlarge",
        "0x-ml.g4dn.xlarge",
        "2x-ml.m5.xlarge",
        "2x-",
        "xx-ml.",
    ],
)
def test_an_offer_that_was_priced_for_other_instances_is_never_asked_for(
    job_of: Jobs, driver: SageMakerDriver, odd: str
) -> None:
    from dataclasses import replace

    offer = replace(next(iter(driver.offers())), id=odd)
    assert offer.gpu_count == 2
    with pytest.raises(InvalidRequestError, match="nothing was launched"):
        request_of(job_of("kwz-me-n2-1", "true"), offer, role=ROLE, image="i", kms_key="")


@pytest.mark.parametrize("odd", ["0", "-1", "two", "1.5", "33", "1e1", "٢", " 2", "9" * 12])
def test_a_number_that_is_none_is_one_clear_line_and_nothing_is_priced(
    driver_of: Callable[..., SageMakerDriver], simulator: SageMakerSimulator, odd: str
) -> None:
    with pytest.raises(
        InvalidRequestError, match=f"not a number from 1 to {MOST_INSTANCES}"
    ) as why:
        list(driver_of(simulator, **{INSTANCES: odd}).offers())
    assert "\n" not in why.value.message
    assert f"unset {INSTANCES}" in why.value.mend
    assert simulator.server.exchanges == []


def test_without_the_setting_a_job_has_one_instance() -> None:
    assert Settings.of({}).checked_instances() == 1
    assert Settings.of({INSTANCES: str(MOST_INSTANCES)}).checked_instances() == MOST_INSTANCES


def test_what_aws_bills_is_said_of_each() -> None:
    job: dict[str, Any] = {"BillableTimeInSeconds": 141, "TrainingTimeInSeconds": 500}
    assert billed(job) == "AWS bills 141 of 500 s"
    for odd in ({}, {"InstanceCount": 1}, {"InstanceCount": "2"}):
        assert billed(job | {"ResourceConfig": odd}) == billed(job)
    two = job | {"ResourceConfig": {"InstanceCount": 2}}
    assert billed(two) == "AWS bills 141 of 500 s on each of 2 instances"


def test_one_instance_is_told_of_no_others() -> None:
    alone = {"hosts": ["algo-1"], "current_host": "algo-1", "network_interface_name": "eth0"}
    assert machines(alone) == {}
    two = {"hosts": ["algo-1", "algo-2"], "current_host": "algo-2"}
    assert machines(two) == {"KWANZAA_MACHINES": "algo-1,algo-2", "KWANZAA_MACHINE": "algo-2"}
    net = machines({**two, "network_interface_name": "ens5"})
    assert (net["NCCL_SOCKET_IFNAME"], net["GLOO_SOCKET_IFNAME"]) == ("ens5", "ens5")


def test_instances_that_end_well_end_the_job_with_the_last(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, job_of: Jobs
) -> None:
    offer = next(offer for offer in driver.offers() if not offer.spot)
    words = ("127.0.0.1", "0", "0", "0.5")
    job = job_of("kwz-me-n3-1", sys.executable, "-c", TELL, *words)
    driver.launch(job, offer)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.EXITED, "it has ended")
    seen = driver.inspect(job.name)
    assert seen.exit_code == 0
    assert seen.detail.endswith("on each of 2 instances")
    both = "127.0.0.1,127.0.0.2"
    assert sorted(driver.logs(job.name)) == [f"{both} 127.0.0.{n} lo lo" for n in (1, 2)]
    assert simulator.cloud.billing == []
    (machine,) = simulator.cloud.sim.machines.values()
    assert machine.usd_per_hour == offer.usd_per_hour == 2 * Decimal(USD_PER_HOUR[offer.id[3:]])


@pytest.mark.parametrize("failing", ["127.0.0.1", "127.0.0.2"])
def test_one_that_fails_fails_the_job_and_ends_the_other(
    simulator: SageMakerSimulator,
    driver: SageMakerDriver,
    harness: Harness,
    job_of: Jobs,
    failing: str,
) -> None:
    offer = next(offer for offer in driver.offers() if not offer.spot)
    job = job_of("kwz-me-n4-1", sys.executable, "-c", TELL, failing, "0", "3", "600")
    driver.launch(job, offer)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.EXITED, "it has ended")
    assert driver.inspect(job.name).exit_code == 3
    assert simulator.cloud.billing == []
    assert all(simulator.cloud.room.commands(room) == [] for room in ("m-1", "m-1-algo-2"))


def test_a_job_that_is_stopped_stops_all_its_instances(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, job_of: Jobs
) -> None:
    offer = next(offer for offer in driver.offers() if offer.spot)
    job = job_of("kwz-me-n5-1", sys.executable, "-c", TELL, "", "0", "0", "600")
    driver.launch(job, offer)
    harness.until(lambda: len(list(driver.logs(job.name))) == 2, "both have begun")
    driver.terminate(job.name)
    harness.until(lambda: driver.inspect(job.name).phase is Phase.GONE, "it has ended")
    assert simulator.cloud.billing == []
    assert all(simulator.cloud.room.commands(room) == [] for room in ("m-1", "m-1-algo-2"))


def test_a_quota_counts_instances(
    simulator: SageMakerSimulator, provider: Provider, driver: SageMakerDriver, job_of: Jobs
) -> None:
    offer: Offer = next(offer for offer in driver.offers() if not offer.spot)
    simulator.account.quotas[instances_of(offer.id)[0]] = 1
    with pytest.raises(QuotaError, match="request delta of 2 Instances"):
        provider.launch(job_of("kwz-me-n6-1", "true"), offer)
    assert simulator.cloud.billing == []
    assert json.loads(simulator.server.exchanges[-1][1].body)["__type"] == "ResourceLimitExceeded"
