"""What a user sets for SageMaker, read from the environment once and checked when it is needed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from kwanzaa_compute.errors import CredentialsError, InvalidRequestError

ROLE = "KWANZAA_SAGEMAKER_ROLE"
IMAGE = "KWANZAA_SAGEMAKER_IMAGE"
KMS_KEY = "KWANZAA_SAGEMAKER_KMS_KEY"
INSTANCES = "KWANZAA_SAGEMAKER_INSTANCES"
MOST_INSTANCES = 32
"""A number beyond that is taken for a slip of the hand: it would multiply the price."""

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")


@dataclass(frozen=True, slots=True)
class Settings:
    """The region, the execution role, and what may be chosen beside."""

    region: str = ""
    role: str = ""
    image: str = ""
    kms_key: str = ""
    instances: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Checks nothing yet: `kwanzaa providers` works without any of it."""
        return cls(
            environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "",
            environment.get(ROLE, ""),
            environment.get(IMAGE, ""),
            environment.get(KMS_KEY, ""),
            environment.get(INSTANCES, ""),
        )

    def checked_region(self) -> str:
        """The region. Raises `InvalidRequestError` where there is none or it cannot be one."""
        if not _REGION.fullmatch(self.region):
            said = f"{self.region[:60]!r} is not an AWS region" if self.region else "no AWS region"
            raise InvalidRequestError(
                f"SageMaker: {said}", mend="export AWS_REGION=us-east-1", nothing_was_created=True
            )
        return self.region

    def checked_instances(self) -> int:
        """How many instances a job has. Raises `InvalidRequestError` for what is no such number."""
        text = self.instances or "1"
        if not _WHOLE.fullmatch(text) or int(text) > MOST_INSTANCES:
            raise InvalidRequestError(
                f"SageMaker: {INSTANCES}={text[:60]!r} is not a number from 1 to {MOST_INSTANCES}",
                mend=f"unset {INSTANCES} for jobs of one instance",
                nothing_was_created=True,
            )
        return int(text)

    def checked_role(self) -> str:
        """The ARN of the execution role. Raises `CredentialsError` where it is none."""
        if not _ROLE.fullmatch(self.role):
            said = f"{self.role[:100]!r} is not the ARN of a role" if self.role else "no role"
            raise CredentialsError(
                f"SageMaker: {said} for the job to run as",
                mend=f"export {ROLE}=arn:aws:iam::<account>:role/<name>; the README says how to"
                " make it",
                nothing_was_created=True,
            )
        return self.role
