"""RunPod in the words of the contract: six methods, the logs, and the way in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting, SSHAccess
from kwanzaa_compute.drivers.http import ReplyError, StatusError, segment
from kwanzaa_compute.drivers.ssh_keys import LoginKey, login_key
from kwanzaa_compute.errors import InvalidRequestError, ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_runpod import FEATURES
from kwanzaa_compute_runpod.client import API, KEY, RunPodClient
from kwanzaa_compute_runpod.images import DEFAULT, SETTING, Image, Registry, image_for
from kwanzaa_compute_runpod.refusals import meaning
from kwanzaa_compute_runpod.replies import (
    OURS,
    address_of,
    fleet_of,
    lines_of,
    offers_of,
    sighting_of,
)
from kwanzaa_compute_runpod.request import body_of

REGISTRY = "KWANZAA_RUNPOD_REGISTRY"
VOLUME = "KWANZAA_RUNPOD_VOLUME"
CLOUDS = ("SECURE", "COMMUNITY")
USER = "root"
"""Whom a container of RunPod's runs as."""


class RunPodDriver:
    """RunPod over REST v2. It sells single GPUs in the secure and the community cloud, no spot."""

    features = FEATURES

    def __init__(self, context: DriverContext) -> None:
        """Reads its settings from the context; the key is looked at when it is first needed."""
        environment = context.environment
        self._clock = context.clock
        self._api = (context.endpoint or API).rstrip("/")
        self._key = environment.get(KEY, "")
        self._image = environment.get(SETTING, "")
        self._volume = environment.get(VOLUME, "")
        self._home = Path(environment.get("KWANZAA_HOME") or Path.home() / ".kwanzaa").absolute()
        self._registry = Registry(environment.get(REGISTRY, ""), self._home / "runpod" / "images")
        self._client: RunPodClient | None = None

    def offers(self) -> Iterable[Offer]:
        """Both clouds, a call each: without being asked for one, RunPod tells the secure stock.

        With a network volume only its data center is asked: it can be mounted nowhere else.
        """
        as_of = iso(self._clock.now())
        cuda = "" if self._image else DEFAULT.cuda
        place = self._place_of_the_volume()
        for cloud in CLOUDS[:1] if place else CLOUDS:
            yield from offers_of(self._ready().gpus(cloud, cuda), cloud, as_of, place)

    def launch(self, job: Job, offer: Offer) -> str:
        """Asks for one pod. Its image is looked up first: where that fails nothing was launched."""
        client = self._ready()
        end_at = self._clock.now() + job.max_hours * 3600  # before anything that takes time
        wanted = image_for(offer.gpu, job.image or self._image)
        body = body_of(
            job,
            offer,
            Image(self._registry.pinned(wanted.name, job.name), wanted.cuda),
            self._login(),
            api=self._api,
            end_at=end_at,
            volume=self._volume,
        )
        pod_id = client.create(body).get("id")
        if not isinstance(pod_id, str) or not pod_id:
            raise ReplyError("a pod was created, and the answer does not name it")
        return pod_id

    def inspect(self, machine_id: str) -> Sighting:
        """One pod; one that RunPod says it does not know is gone."""
        pod = self._pod(machine_id)
        return Sighting(machine_id, Phase.GONE) if pod is None else sighting_of(pod)

    def fleet(self) -> Iterable[Sighting]:
        """Every pod of the account with a name of ours, read to the last page before the first."""
        return list(fleet_of(self._ready().pods()))

    def terminate(self, machine_id: str) -> None:
        """Deletes a pod, with its disk; a network volume stays. An unknown one is no error."""
        try:
            self._ready().delete(machine_id)
        except StatusError as error:
            if not _is_unknown(error):
                raise

    def logs(self, machine_id: str) -> Iterable[str]:
        """The last 5,000 lines, with what RunPod itself did to the machine. Untrusted text."""
        return list(lines_of(self._ready().logs(machine_id)))

    def ssh(self, machine_id: str) -> SSHAccess | None:
        """How to log in; None while no public port leads there, and for a machine of others."""
        pod = self._pod(machine_id)
        address = None if pod is None else address_of(pod)
        if pod is None or address is None or not sighting_of(pod).name.startswith(OURS):
            return None
        keys = self._login()
        return SSHAccess(
            host=address[0],
            port=address[1],
            user=USER,
            host_key=keys.host_key(pod["name"]).public,
            identity=keys.path,
        )

    def classify(self, error: Exception) -> ProviderError:
        """See `refusals`."""
        return meaning(error, self._clock.now())

    def _ready(self) -> RunPodClient:
        if self._client is None:
            self._client = RunPodClient(self._key, self._api)
        return self._client

    def _pod(self, machine_id: str) -> dict[str, Any] | None:
        try:
            pod = self._ready().pod(machine_id)
        except StatusError as error:
            if _is_unknown(error):
                return None
            raise
        if sighting_of(pod).machine_id != machine_id:
            raise ReplyError("the answer is about another pod")
        return pod

    def _login(self) -> LoginKey:
        try:
            keys = login_key(self._home, "runpod")
            _ = keys.public  # one that cannot be read is found out now
        except (OSError, ValueError, TypeError) as error:
            raise InvalidRequestError(
                f"the SSH key of {self._home / 'runpod'} cannot be made or read:"
                f" {type(error).__name__}",
                mend="delete that folder if the key in it is broken",
                nothing_was_created=True,
            ) from error
        return keys

    def _place_of_the_volume(self) -> str:
        if not self._volume:
            return ""
        try:
            place = self._ready().volume(self._volume).get("dataCenter")
        except StatusError as error:
            if _is_unknown(error):
                raise InvalidRequestError(
                    f"RunPod knows no network volume {self._volume[:100]!r} ({VOLUME})",
                    mend=f"unset {VOLUME}, or set it to one of this account's",
                ) from error
            raise
        if not isinstance(place, str) or not place or segment(place) != place:
            raise ReplyError("a network volume without a data center")
        return place


def _is_unknown(error: StatusError) -> bool:
    """Whether RunPod itself says that there is no such thing, and not some gateway before it."""
    body = error.json()
    return error.status == 404 and isinstance(body, dict)  # noqa: PLR2004 -- as HTTP has it
