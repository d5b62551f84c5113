"""The least that a user and an execution role need, as IAM policies. The README holds them.

`python -m kwanzaa_compute_sagemaker.policy user BUCKET ROLE_ARN` prints one; `role BUCKET` the
other, `trust` who may assume it. A test compares them with the calls that the driver truly makes.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

READ_WRITE = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
USAGE = (
    "usage: python -m kwanzaa_compute_sagemaker.policy user BUCKET ROLE_ARN | role BUCKET | trust"
)


def user_policy(bucket: str, role: str) -> dict[str, Any]:
    """For the user on whose machine `kwanzaa` runs.

    Jobs are limited to names of ours. Listing them and reading the price list cannot be limited.
    """
    jobs = "arn:aws:sagemaker:*:*:training-job/kwz-*"
    group = "arn:aws:logs:*:*:log-group:/aws/sagemaker/TrainingJobs"
    return _policy(
        _allow(
            ("sagemaker:CreateTrainingJob", "sagemaker:AddTags"),
            jobs,
        ),
        _allow(("sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"), jobs),
        _allow(("sagemaker:ListTrainingJobs", "pricing:GetProducts"), "*"),
        _allow(
            ("logs:DescribeLogStreams", "logs:GetLogEvents"), group, f"{group}:log-stream:kwz-*"
        ),
        {
            **_allow(("iam:PassRole",), role),
            "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        },
        *_store(bucket),
    )


def role_policy(bucket: str) -> dict[str, Any]:
    """For the role that the job runs as: its store, its container, its log. It cannot rent."""
    group = "arn:aws:logs:*:*:log-group:/aws/sagemaker/TrainingJobs"
    return _policy(
        _allow(("logs:CreateLogGroup",), group),
        _allow(
            ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            f"{group}:log-stream:kwz-*",
        ),
        _allow(("ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"), "*"),
        _allow(
            ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            "arn:aws:ecr:*:*:repository/*",
        ),
        *_store(bucket),
    )


def trust_policy() -> dict[str, Any]:
    """Who may assume the execution role: SageMaker, and nobody else."""
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    )


def _store(bucket: str) -> tuple[dict[str, Any], ...]:
    return (
        _allow(READ_WRITE, f"arn:aws:s3:::{bucket}/*"),
        _allow(("s3:ListBucket",), f"arn:aws:s3:::{bucket}"),
    )


def _policy(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(actions: Sequence[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def main(words: Sequence[str]) -> int:
    """Prints a policy; 2 where it is not said which."""
    match words:
        case ["user", bucket, role]:
            policy = user_policy(bucket, role)
        case ["role", bucket]:
            policy = role_policy(bucket)
        case ["trust"]:
            policy = trust_policy()
        case _:
            sys.stderr.write(f"{USAGE}\n")
            return 2
    sys.stdout.write(json.dumps(policy, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
