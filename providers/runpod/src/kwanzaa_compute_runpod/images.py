"""Which image a machine runs, and what its tag means today: a digest, asked of the registry.

A tag can be moved by whoever owns it, and the image sees the right to the run's store. So a machine
only ever runs a digest, which is looked up from here over verified TLS. Where it cannot be looked
up nothing is launched; an image that is set as `name@sha256:...` needs no look-up.
"""

import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.drivers.http import (
    HttpClient,
    HttpFailure,
    NoAnswerError,
    ReplyError,
    StatusError,
)
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError
from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.secret import Secret

SETTING = "KWANZAA_RUNPOD_IMAGE"
DOCKER_HUB = "registry-1.docker.io"
REGISTRY_S = 8.0
_RUN = re.compile(r"(kwz-[A-Za-z0-9_.-]{1,180})-[0-9]{1,9}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,199}(:[0-9]{1,5})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99}){0,5}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_CHALLENGE = re.compile(r'(realm|service|scope)="([^"]*)"')
_BLACKWELL = (10, 0)


@dataclass(frozen=True, slots=True)
class Image:
    """An image with torch, and the CUDA that its host's driver must offer ("12.6")."""

    name: str
    cuda: str = ""


# PyTorch's own images on Docker Hub: the trainer needs torch 2.11 or newer, and RunPod's newest
# image in its API description has 2.8. Builds for CUDA 12.6 hold kernels up to Hopper and run on
# hosts with older drivers; Blackwell needs those for CUDA 13.
DEFAULT = Image("pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime", "12.6")
FOR_BLACKWELL = Image("pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime", "13.0")


def image_for(gpu: GPU, wanted: str) -> Image:
    """The image for a GPU: the one that is wanted, whatever CUDA it needs, or one of ours."""
    if wanted:
        return Image(wanted)
    return FOR_BLACKWELL if gpu.compute_capability >= _BLACKWELL else DEFAULT


class Registry:
    """Looks tags up, once a run: whoever launches a run again, it gets the very same image."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        """`endpoint` replaces every registry's own address: a mirror's, or a simulator's.

        What a tag meant for a run is kept in `folder`, where other watchers of this user find it.
        """
        self._endpoint = endpoint
        self._folder = folder

    def pinned(self, image: str, machine_name: str) -> str:
        """The image of that run's machines by its digest.

        Raises a `ProviderError`; nothing was launched then.
        """
        run = _RUN.fullmatch(machine_name)
        path = self._folder / f"{run[1]}.json" if run else None
        known = _kept(path) if path else {}
        if image not in known:
            known[image] = self._look_up(image)
            if path:
                _keep(path, known)
        return known[image]

    def _look_up(self, image: str) -> str:
        host, name, tag, digest = parsed(image)
        if digest:
            return image
        try:
            found = self._digest(self._endpoint or f"https://{host}", name, tag)
        except HttpFailure as error:
            raise _cannot_pin(image, error) from error
        where = "" if host == DOCKER_HUB else f"{host}/"
        return f"{where}{name}@{found}"

    def _digest(self, endpoint: str, name: str, tag: str) -> str:
        path = f"/v2/{name}/manifests/{tag}"
        try:
            return _asked(HttpClient(endpoint, headers={"Accept": _MANIFESTS}), path)
        except StatusError as error:
            if error.status != 401:  # noqa: PLR2004 -- as HTTP has it
                raise
            token = _token(error.headers.get("www-authenticate", ""), endpoint)
        with HttpClient(endpoint, authorization=token, headers={"Accept": _MANIFESTS}) as client:
            return _asked(client, path)


def _kept(path: Path) -> dict[str, str]:
    """What is known of a run's images; nothing where the file is not what was written there."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {image: name for image, name in known.items() if parsed(name)[3]}
    except (OSError, ValueError, AttributeError, TypeError, InvalidRequestError):
        return {}


def _keep(path: Path, known: Mapping[str, str]) -> None:
    mine = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    with suppress(OSError):  # it is looked up again then
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mine.write_text(json.dumps(known), encoding="utf-8")
        mine.replace(path)


def parsed(image: str) -> tuple[str, str, str, str]:
    """Registry host, name, tag and digest of an image. Raises `InvalidRequestError`."""
    rest, _, digest = image.partition("@")
    host, slash, name = rest.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, name = DOCKER_HUB, rest
    if host == "docker.io":
        host = DOCKER_HUB
    name, _, tag = name.partition(":")
    if host == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    tag = tag or "latest"
    good = _HOST.fullmatch(host) and _NAME.fullmatch(name) and _TAG.fullmatch(tag)
    if not good or (digest and not _DIGEST.fullmatch(digest)):
        raise InvalidRequestError(
            f"{image[:200]!r} is no image", mend=f"set {SETTING}", nothing_was_created=True
        )
    return host, name, tag, digest


def _asked(client: HttpClient, path: str) -> str:
    answer = client.call("HEAD", path, total_s=REGISTRY_S)
    digest = answer.headers.get("docker-content-digest", "")
    if not _DIGEST.fullmatch(digest):
        raise ReplyError("the registry names no digest")
    return digest


def _token(challenge: str, endpoint: str) -> Secret:
    """A registry's token for whoever asks, from where its refusal points to."""
    asked = dict(_CHALLENGE.findall(challenge))
    realm = asked.pop("realm", "")
    if realm.partition(":")[0] not in {"https", endpoint.partition(":")[0]}:
        raise ReplyError("the registry asks for a login")
    with HttpClient(realm) as client:
        reply = client.call("GET", "", params=asked, total_s=REGISTRY_S).json()
    token = reply.get("token") or reply.get("access_token") if isinstance(reply, dict) else None
    if not isinstance(token, str) or not token.isprintable() or not token.isascii():
        raise ReplyError("the registry gives no token")
    return Secret(f"Bearer {token}")


def _cannot_pin(image: str, error: HttpFailure) -> ProviderError:
    words = f"nothing was launched: what {image} is today cannot be looked up ({error})"
    mend = f"set {SETTING}=name@sha256:..., which needs no registry"
    passing = isinstance(error, NoAnswerError) or (
        isinstance(error, StatusError) and (error.status == 429 or error.status >= 500)  # noqa: PLR2004
    )
    kind = TransientError if passing else InvalidRequestError
    return kind(words, mend=mend, nothing_was_created=True)
