"""The request for one command job, and the parcel that its machine finds as its input. Pure.

Whoever may look at jobs sees a job's command and its environment variables. So nothing of ours
goes there. The command, its variables and its secrets are one object below the run's own folder.
Azure ML brings it to the machine as an input, by the right of the datastore that the workspace
has for the container, again whenever it starts the job anew.
"""

import json
import math
import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_azureml.prices import size_of
from kwanzaa_compute_azureml.replies import OURS
from kwanzaa_compute_azureml.shapes import SHAPES

INPUT = "kwanzaa"
PARCEL = "job.json"
LAUNCHER = (
    "import json,os,sys;j=json.load(open(sys.argv[1]));os.environ.update(j['env']);"
    "os.execvp(j['argv'][0],j['argv'])"
)
"""Becomes the job's command, so that signals and exit codes are the command's own."""
COMMAND = f"exec {shlex.join(['python3', '-c', LAUNCHER])} ${{{{inputs.{INPUT}}}}}"
"""One line for the shell. Azure ML puts the input's path on the machine into it."""
TAG = "kwanzaa-compute"
"""Every job and every cluster of ours bears it."""
NAME_TAG = "kwanzaa-compute-job"
EXPERIMENT = "kwanzaa-compute"
SPOT_TIER, STANDARD_TIER = "Spot", "Standard"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies: a container of the storage account, and a path in it."""

    container: str
    path: str

    @property
    def store_url(self) -> str:
        """The whole container as a store."""
        return f"az://{self.container}"


@dataclass(frozen=True, slots=True)
class Request:
    """What a job asks for, in our words; `azure.command_of` says it in the SDK's."""

    name: str
    image: str
    size: str
    spot: bool
    datastore: str
    parcel: Place
    timeout_s: int


def parcel_place(store_url: str, name: str) -> Place:
    """Where the parcel of a job lies. Raises `InvalidRequestError` for another store."""
    parts = urlsplit(store_url)
    if parts.scheme != "az" or not parts.netloc:
        raise refused(f"Azure ML reaches az:// only, not {parts.scheme}://")
    prefix = parts.path.strip("/")
    return Place(parts.netloc, f"{prefix}/machines/{name}/{PARCEL}".lstrip("/"))


def uri_of(request: Request) -> str:
    """How a job names its parcel."""
    return f"azureml://datastores/{request.datastore}/paths/{request.parcel.path}"


def parcel_of(job: Job) -> bytes:
    """The command and all its variables, secrets among them: this goes to the store alone."""
    env = {**job.env, **{name: secret.reveal() for name, secret in job.secrets.items()}}
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise refused(f"{name[:200]!r} cannot be a variable of the machine")
    return json.dumps({"argv": list(job.argv), "env": env}).encode()


def request_of(job: Job, offer: Offer, *, image: str, datastore: str) -> Request:
    """What is asked for. Raises `InvalidRequestError` for what cannot be said."""
    size = size_of(offer.id)
    if size not in SHAPES:
        raise refused(f"{offer.id[:100]!r} is not a size of machine that we know")
    if not OURS.fullmatch(job.name):
        raise refused(f"{job.name[:100]!r} cannot be a job's name")
    return Request(
        name=job.name,
        image=image,
        size=size,
        spot=offer.spot,
        datastore=datastore,
        parcel=parcel_place(job.store_url, job.name),
        timeout_s=max(1, math.ceil(job.max_hours * 3600)),
    )


def refused(words: str) -> InvalidRequestError:
    """An error of which it is certain that nothing was launched."""
    return InvalidRequestError(f"nothing was launched: {words}", nothing_was_created=True)
