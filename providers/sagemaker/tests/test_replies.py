"""What a description means, what the price list says, and what the table of shapes stands on."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.prices import hourly, offers_of
from kwanzaa_compute_sagemaker.replies import REMEMBERED_S, sighting_of
from kwanzaa_compute_sagemaker.shapes import SHAPES
from kwanzaa_compute_sagemaker.simulated.account import USD_PER_HOUR, price_list
from kwanzaa_compute_sagemaker.simulated.model import service

NOW = 1_800_000_000.0
CAPACITY = "CapacityError: Unable to provision requested ML compute capacity. Please retry"


def seen(status: str, secondary: str = "", reason: str = "", **more: Any) -> tuple[Phase, Any]:
    job = {"TrainingJobName": "kwz-me-r-1", "TrainingJobStatus": status, **more}
    sighting = sighting_of({**job, "SecondaryStatus": secondary, "FailureReason": reason}, NOW)
    return sighting.phase, sighting.exit_code


@pytest.mark.parametrize(
    ("status", "secondary", "reason", "expected"),
    [
        ("InProgress", "Pending", "", (Phase.QUEUED, None)),
        ("InProgress", "Starting", "", (Phase.STARTING, None)),
        ("InProgress", "LaunchingMLInstances", "", (Phase.STARTING, None)),
        ("InProgress", "Downloading", "", (Phase.STARTING, None)),
        ("InProgress", "Restarting", "", (Phase.STARTING, None)),
        ("InProgress", "Updating", "", (Phase.STARTING, None)),
        ("InProgress", "Training", "", (Phase.RUNNING, None)),
        ("InProgress", "Uploading", "", (Phase.STOPPING, None)),
        ("InProgress", "Interrupted", "", (Phase.PREEMPTED, None)),
        ("InProgress", "SomethingNew", "", (Phase.RUNNING, None)),
        ("Stopping", "Stopping", "", (Phase.STOPPING, None)),
        ("Stopped", "Stopped", "", (Phase.GONE, None)),
        ("Stopped", "MaxRuntimeExceeded", "", (Phase.EXITED, None)),
        ("Stopped", "MaxWaitTimeExceeded", "", (Phase.EXITED, None)),
        ("Completed", "Completed", "", (Phase.EXITED, 0)),
        ("Failed", "Failed", "AlgorithmError: , exit code: 3", (Phase.EXITED, 3)),
        ("Failed", "Failed", "InternalServerError: We encountered", (Phase.EXITED, None)),
        ("Failed", "Failed", CAPACITY, (Phase.PREEMPTED, None)),
        ("Deleting", "", "", (Phase.GONE, None)),
        ("SomethingNew", "", "", (Phase.RUNNING, None)),
    ],
)
def test_what_a_status_means(
    status: str, secondary: str, reason: str, expected: tuple[Phase, int | None]
) -> None:
    assert seen(status, secondary, reason) == expected


def test_every_status_of_the_model_has_a_meaning_and_none_that_may_bill_is_gone() -> None:
    for status in service("sagemaker").shape_for("TrainingJobStatus").enum:
        for secondary in service("sagemaker").shape_for("SecondaryStatus").enum:
            phase, _ = seen(status, secondary)
            assert status not in {"InProgress", "Stopping"} or phase is not Phase.GONE


def test_an_old_end_is_forgotten_and_says_until_then_what_aws_bills() -> None:
    ended = {"TrainingTimeInSeconds": 500, "BillableTimeInSeconds": 141}
    job = {"TrainingJobName": "kwz-me-r-1", "TrainingJobStatus": "Completed", **ended}
    just = {**job, "TrainingEndTime": datetime.fromtimestamp(NOW - 1, UTC)}
    assert sighting_of(just, NOW).detail.endswith("AWS bills 141 of 500 s")
    old = {**job, "TrainingEndTime": datetime.fromtimestamp(NOW - REMEMBERED_S - 1, UTC)}
    assert sighting_of(old, NOW).phase is Phase.GONE


def test_others_words_are_one_short_line() -> None:
    job = {"TrainingJobName": "kwz-me-r-1", "TrainingJobStatus": "Failed"}
    detail = sighting_of({**job, "FailureReason": "\x1b[2J a\nb" + "x" * 2000}, NOW).detail
    assert detail.isprintable()
    assert len(detail) <= 300


def test_only_training_of_this_region_is_for_sale_and_spot_at_most_as_dear(
    driver: SageMakerDriver,
) -> None:
    offers: list[Offer] = list(driver.offers())
    assert {o.id: o.usd_per_hour for o in offers if not o.spot} == {
        name: Decimal(usd) for name, usd in USD_PER_HOUR.items()
    }
    spot = [o for o in offers if o.spot]
    assert len(spot) == len(USD_PER_HOUR)
    assert all("the most" in o.source for o in spot)


def test_a_price_that_makes_no_sense_is_unknown_and_a_row_that_makes_none_is_not_for_sale() -> None:
    good = next(t for t in price_list() if "USE1-Train:ml.g5.2xlarge" in t)
    odd = [good.replace("1.515", bad) for bad in ("0", "-1", "NaN", "1e9", "free", "Infinity")]
    for text in odd:
        assert hourly([text], "us-east-1") == {"ml.g5.2xlarge": None}
    assert hourly([good, good], "us-east-1") == {"ml.g5.2xlarge": Decimal("1.515")}
    assert hourly([good, good.replace("1.515", "1.6")], "us-east-1") == {"ml.g5.2xlarge": None}
    assert hourly([good.replace('"Hrs"', '"GB"')], "us-east-1") == {"ml.g5.2xlarge": None}
    noise = ["", "[]", "null", "{}", '{"product": 3}', "[" * 5000, good.replace("USE1", "use1")]
    assert list(offers_of(noise, "us-east-1", "now")) == []
    assert hourly([good], "eu-west-1") == {}


def test_the_shapes_are_those_of_ec2_and_sagemaker_trains_on_all_of_them() -> None:
    packed = files("moto.ec2").joinpath("resources/instance_types.json.gz").read_bytes()
    ec2 = json.loads(gzip.decompress(packed))
    known = set(service("sagemaker").shape_for("TrainingInstanceType").enum)
    for shape in SHAPES.values():
        assert shape.instance in known
        assert shape.gpu.tflops_fp16 > 0, shape.gpu_name
        assert 0.88 <= shape.gpu.vram_gib / (shape.mib / 1024) <= 1.0, shape.instance
        facts = ec2.get(shape.instance.removeprefix("ml."))
        if facts is None:  # moto's table has forgotten p3
            assert shape.instance.startswith("ml.p3.")
            continue
        (gpu,) = facts["GpuInfo"]["Gpus"]
        assert (gpu["Count"], gpu["MemoryInfo"]["SizeInMiB"]) == (shape.count, shape.mib)
