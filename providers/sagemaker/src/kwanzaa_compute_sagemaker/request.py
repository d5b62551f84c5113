"""The request for one training job, and the parcel that its machine finds in its input. Pure.

Describe shows a job's environment to everybody who may look at jobs, and allows 512 characters a
variable. So nothing of ours goes there. The command, its variables and its secrets are one
object below the run's own folder in S3, encrypted there. SageMaker brings it to the machine as an
input channel, by the right of the execution role, again after each interruption, and to each
instance where a job has several.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_sagemaker.prices import instances_of
from kwanzaa_compute_sagemaker.replies import OURS
from kwanzaa_compute_sagemaker.shapes import SHAPES

CHANNEL = "kwanzaa"
PARCEL = "job.json"
INPUT = f"/opt/ml/input/data/{CHANNEL}"
HOME = "/opt/ml/kwanzaa"
"""Where the command works: on the machine's volume, and not below what SageMaker uploads."""
RESOURCES = "/opt/ml/input/config/resourceconfig.json"
LAUNCHER = "import json,sys;exec(json.load(open(sys.argv[1]))['start'])"
"""Becomes `start`, which lies in the parcel: an argument has 256 characters at most."""
WAIT_S = 3600
"""How long a spot job may wait for instances, beside its running time."""
LEAST_GIB = 30
TAG = {"Key": "kwanzaa-compute", "Value": "yes"}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in S3 something lies."""

    bucket: str
    key: str

    @property
    def url(self) -> str:
        """Its s3:// address."""
        return f"s3://{self.bucket}/{self.key}"


def parcel_place(store_url: str, name: str) -> Place:
    """Where the parcel of a job lies. Raises `InvalidRequestError` where its store is not S3."""
    parts = urlsplit(store_url)
    if parts.scheme != "s3" or not parts.netloc:
        raise refused(f"SageMaker reaches s3:// only, not {parts.scheme}://")
    prefix = parts.path.strip("/")
    return Place(parts.netloc, f"{prefix}/machines/{name}/{PARCEL}".lstrip("/"))


def parcel_of(job: Job) -> bytes:
    """The command and all its variables, secrets among them: this goes to S3 and nowhere else."""
    env = {**job.env, **{name: secret.reveal() for name, secret in job.secrets.items()}}
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise refused(f"{name[:200]!r} cannot be a variable of the machine")
    start = files(__package__).joinpath("start.py").read_text("utf-8")
    return json.dumps({"argv": list(job.argv), "env": env, "start": start}).encode()


def request_of(job: Job, offer: Offer, *, role: str, image: str, kms_key: str) -> dict[str, Any]:
    """The words of `CreateTrainingJob`. Raises `InvalidRequestError` for what cannot be said."""
    instance, count = instances_of(offer.id)
    if instance not in SHAPES or offer.gpu_count != SHAPES[instance].count * count:
        raise refused(f"{offer.id[:100]!r} is not a training instance that we know")
    if not OURS.fullmatch(job.name):
        raise refused(f"{job.name[:100]!r} cannot be a training job's name")
    parcel = parcel_place(job.store_url, job.name)
    seconds = max(1, math.ceil(job.max_hours * 3600))
    folder = parcel.url.removesuffix(f"/{PARCEL}")
    body: dict[str, Any] = {
        "TrainingJobName": job.name,
        "RoleArn": role,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", LAUNCHER],
            "ContainerArguments": [f"{INPUT}/{PARCEL}", RESOURCES, HOME],
        },
        "InputDataConfig": [
            {
                "ChannelName": CHANNEL,
                "DataSource": {"S3DataSource": _whole(f"{folder}/")},
            }
        ],
        # SageMaker asks for one. The trainer leaves nothing where it would be taken from.
        "OutputDataConfig": {"S3OutputPath": f"{folder}/output", **_key("KmsKeyId", kms_key)},
        "ResourceConfig": {
            "InstanceType": instance,
            "InstanceCount": count,
            "VolumeSizeInGB": max(LEAST_GIB, math.ceil(job.disk_gib)),
            **_key("VolumeKmsKeyId", kms_key),
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        "EnableManagedSpotTraining": offer.spot,
        # What the debugger and the profiler would upload, nobody reads.
        "ProfilerConfig": {"DisableProfiler": True},
        "Tags": [TAG, {"Key": "kwanzaa-compute-job", "Value": job.name}],
    }
    if offer.spot:
        body["StoppingCondition"]["MaxWaitTimeInSeconds"] = seconds + WAIT_S
    return body


def encryption(kms_key: str) -> Mapping[str, str]:
    """How the parcel is encrypted where it lies."""
    if kms_key:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
    return {"ServerSideEncryption": "AES256"}


def parcel_of_description(job: Mapping[str, Any]) -> Place | None:
    """Where the parcel of a described job lies; None where it has none of ours."""
    for channel in job.get("InputDataConfig") or ():
        if channel.get("ChannelName") == CHANNEL:
            url = channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", "")
            parts = urlsplit(url)
            return Place(parts.netloc, f"{parts.path.strip('/')}/{PARCEL}")
    return None


def refused(words: str) -> InvalidRequestError:
    """An error of which it is certain that nothing was launched."""
    return InvalidRequestError(f"nothing was launched: {words}", nothing_was_created=True)


def _whole(url: str) -> dict[str, str]:
    """All of a folder, for every instance."""
    return {
        "S3DataType": "S3Prefix",
        "S3Uri": url,
        "S3DataDistributionType": "FullyReplicated",
    }


def _key(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}
