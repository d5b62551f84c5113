"""The policies in the README are those of the code, and allow what the driver does, no more."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute_sagemaker import policy
from kwanzaa_compute_sagemaker.driver import SageMakerDriver
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

README = Path(__file__).parents[1] / "README.md"
BUCKET, ROLE = "my-runs", "arn:aws:iam::123456789012:role/kwanzaa-training"
STORE = {"s3:GetObject", "s3:ListBucket", "s3:AbortMultipartUpload"}
"""What the store needs beside the driver: it reads, lists, and gives up large uploads."""
IMPLIED = {"sagemaker:AddTags", "iam:PassRole"}
"""What CreateTrainingJob is checked for besides itself."""


def actions(document: dict[str, Any]) -> set[str]:
    return {action for one in document["Statement"] for action in one["Action"]}


def test_the_user_may_do_what_the_driver_does_and_nothing_else(
    simulator: SageMakerSimulator, driver: SageMakerDriver, harness: Harness, spot: Offer
) -> None:
    called: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        called.add(f"{service}:{model.name}")

    for service in ("sagemaker", "pricing", "logs", "s3"):
        driver._aws.client(service).meta.events.register("before-call", note)
    job = harness.job("kwz-me-p1-1", 600)
    list(driver.offers())
    driver.launch(job, spot)
    harness.until(lambda: bool(list(driver.logs(job.name))), "it has printed something")
    harness.end(job.name)
    assert called | STORE | IMPLIED == actions(policy.user_policy(BUCKET, ROLE))


def test_neither_may_rent_anything_else() -> None:
    everything = actions(policy.user_policy(BUCKET, ROLE)) | actions(policy.role_policy(BUCKET))
    assert not [action for action in everything if "*" in action]
    assert not [a for a in actions(policy.role_policy(BUCKET)) if a.startswith("sagemaker:")]
    for statement in policy.user_policy(BUCKET, ROLE)["Statement"]:
        if "*" in statement["Resource"]:
            assert set(statement["Action"]) == {"sagemaker:ListTrainingJobs", "pricing:GetProducts"}


def test_the_readme_holds_the_policies_of_the_code() -> None:
    shown = [
        json.loads(text) for text in re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    ]
    assert shown == [
        policy.trust_policy(),
        policy.role_policy(BUCKET),
        policy.user_policy(BUCKET, ROLE),
    ]


@pytest.mark.parametrize("words", [["user", BUCKET, ROLE], ["role", BUCKET], ["trust"]])
def test_they_are_printed_as_aws_takes_them(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert policy.main(words) == 0
    assert json.loads(capsys.readouterr().out)["Version"] == "2012-10-17"
    assert policy.main(["nonsense"]) == 2
