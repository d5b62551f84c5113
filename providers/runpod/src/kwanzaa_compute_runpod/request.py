"""The body of a create: what a job on an offer becomes in RunPod's words."""

import base64
import json
import math
import pkgutil
import re
import shlex
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.drivers.ssh_keys import LoginKey
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_runpod.images import Image

CACHE = "/kwanzaa-cache"
"""Where a network volume is mounted."""
PORTS = ("22/tcp",)
LOADER = (
    'import os,zlib,base64;exec(zlib.decompress(base64.b64decode(os.environ["KWANZAA_GUARD"])))'
)
_NAME = re.compile(r"kwz-[A-Za-z0-9_.-]{1,180}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_CLOUDS = {"secure": "SECURE", "community": "COMMUNITY"}
SECURE = "SECURE"


def body_of(
    job: Job,
    offer: Offer,
    image: Image,
    keys: LoginKey,
    *,
    api: str,
    end_at: float,
    volume: str = "",
) -> dict[str, Any]:
    """The request for one machine that runs `job` under the guard until `end_at` (epoch seconds).

    The owner of `keys` can log in there. Raises `InvalidRequestError` for what could not be passed
    on as it is.
    """
    if not _NAME.fullmatch(job.name):
        raise _refused(f"{job.name[:200]!r} cannot be a machine's name")
    body: dict[str, Any] = {
        "name": job.name,
        "image": image.name,
        "gpu": {"id": offer.id, "count": 1},
        "cloud": _CLOUDS.get(offer.region, SECURE),
        "disk": max(1, math.ceil(job.disk_gib)),
        # One string, split as a shell would; the job's own words travel as JSON.
        "args": shlex.join(("python3", "-c", LOADER)),
        "ports": list(PORTS),
        "env": _environment(job, _login(keys, job.name), api, end_at, volume),
    }
    if image.cuda:
        body["gpu"]["minCudaVersion"] = image.cuda
    if offer.region not in _CLOUDS:  # a data center, where the volume is
        body["dataCenterIds"] = [offer.region]
        if volume:
            body["mounts"] = {"network": [{"volumeId": volume, "path": CACHE}]}
    return body


def _environment(
    job: Job, login: Mapping[str, str], api: str, end_at: float, volume: str
) -> dict[str, str]:
    cache_folder = {"HF_HOME": f"{CACHE}/huggingface"} if volume else {}
    env = {
        **cache_folder,
        **job.env,
        **{name: secret.reveal() for name, secret in job.secrets.items()},
        **login,
        "KWANZAA_GUARD": packed("guard.py"),
        "KWANZAA_COMMAND": json.dumps(list(job.argv)),
        "KWANZAA_END_AT": f"{end_at:.0f}",
        "KWANZAA_RUNPOD_API": api,
    }
    _check(env)
    return env


def _check(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or name.startswith("RUNPOD_"):
            raise _refused(f"{name[:200]!r} cannot be a variable of the machine")
        if "\0" in value:
            raise _refused(f"the variable {name} holds a NUL, which no environment can")


def _login(keys: LoginKey, name: str) -> dict[str, str]:
    host_key = keys.host_key(name).private
    return {
        "KWANZAA_LOGIN": packed("login.py"),
        "KWANZAA_LOGIN_HOST_KEY": base64.b64encode(host_key.encode()).decode(),
        "KWANZAA_LOGIN_KEY": keys.public,
    }


@cache
def packed(file: str) -> str:
    """A script of this package as a variable holds it: compressed, base64."""
    source = pkgutil.get_data(__package__ or "", file)
    if source is None:
        raise FileNotFoundError(f"{file} is missing from this installation")
    return base64.b64encode(zlib.compress(source, 9)).decode()


def _refused(words: str) -> InvalidRequestError:
    return InvalidRequestError(f"nothing was launched: {words}", nothing_was_created=True)
