"""`LambdaDriver`: our six words in Lambda's language."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting, SSHAccess
from kwanzaa_compute.drivers.http import HttpClient, ReplyError, StatusError, bearer
from kwanzaa_compute.drivers.ssh_keys import LoginKey, login_key
from kwanzaa_compute.errors import CredentialsError, ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_lambda_cloud import FEATURES, replies
from kwanzaa_compute_lambda_cloud.limits import (
    LAUNCH,
    REQUEST,
    Limits,
    TooBusyError,
    Turns,
    turns_for,
)
from kwanzaa_compute_lambda_cloud.meaning import (
    NotAskedError,
    SoldOutError,
    error_code,
    meaning,
)
from kwanzaa_compute_lambda_cloud.user_data import UnsendableJobError, user_data

T = TypeVar("T", bound=replies.Reply)
ENDPOINT = "https://cloud.lambda.ai"
MOST_NAME = 64
CALL_S = 25.0
"""A whole call. With the longest wait for a turn it stays below what `Provider` allows."""
LATEST_S = 30.0
"""So long after it was told to, nothing is launched any more: nobody may wait for the answer."""
USER = "ubuntu"
PROVIDER = "lambda"


class LambdaDriver:
    """One account. Each call is one request, but the first launch: that one needs a login key."""

    features = FEATURES

    def __init__(
        self, context: DriverContext, *, limits: Limits | None = None, call_s: float = CALL_S
    ) -> None:
        """Reads `LAMBDA_API_KEY` and `KWANZAA_HOME`; `LAMBDA_IMAGE_FAMILY` names another image.

        `limits` is the pace of calls; a simulation sets `KWANZAA_LAMBDA_PACE`. `call_s` limits a
        whole call. All in seconds.
        """
        environment = context.environment
        self._key = environment.get("LAMBDA_API_KEY", "").strip()
        self._endpoint = context.endpoint or ENDPOINT
        self._clock = context.clock
        self._home = Path(environment.get("KWANZAA_HOME") or Path.home() / ".kwanzaa").absolute()
        self._image = environment.get("LAMBDA_IMAGE_FAMILY", "")
        self._limits = limits or Limits().scaled(environment.get("KWANZAA_LAMBDA_PACE", "1"))
        self._call_s = call_s
        self._known_key = ""
        self._lock = threading.Lock()
        self._parts: tuple[HttpClient, Turns] | None = None

    def offers(self) -> Iterable[Offer]:
        """Each machine shape in each region that has it now, with the price of now: one call."""
        answer = self._read(replies.InstanceTypes, "GET", "/instance-types")
        return replies.offers_of(answer, iso(self._clock.now()))

    def launch(self, job: Job, offer: Offer) -> str:
        """Launches one machine that runs the job once it has booted."""
        began = self._clock.monotonic()
        try:
            body = self._order(job, offer)
            self._turn(REQUEST, LAUNCH)
            self._still_in_time(began)
        except Exception as error:
            raise NotAskedError(error) from error
        try:
            answer = self._call("POST", "/instance-operations/launch", body)
        except StatusError:
            self._known_key = ""  # it may be the key that is no longer there
            raise
        (machine_id, *more) = replies.read(replies.Launched, answer).data.instance_ids
        if more or not machine_id:
            raise ReplyError("a launch of one machine was answered with several, or with none")
        return machine_id

    def inspect(self, machine_id: str) -> Sighting:
        """What one machine is doing; GONE where Lambda says that there is no such machine."""
        instance = self._instance(machine_id)
        if instance is None:
            return Sighting(machine_id, Phase.GONE)
        return replies.sighting_of(instance)

    def fleet(self) -> Iterable[Sighting]:
        """Every machine of the account that carries a name of ours, in its name or its tag."""
        found = self._read(replies.Instances, "GET", "/instances").data
        return [replies.sighting_of(instance) for instance in found if instance.our_name]

    def terminate(self, machine_id: str) -> None:
        """Ends a machine and its billing; one that Lambda does not know is no error."""
        try:
            self._turn(REQUEST)
            self._call("POST", "/instance-operations/terminate", {"instance_ids": [machine_id]})
        except StatusError as error:
            if error_code(error) != "global/object-does-not-exist":
                raise

    def ssh(self, machine_id: str) -> SSHAccess | None:
        """How to log in; None while the machine has no address, and for a machine of others."""
        instance = self._instance(machine_id)
        if instance is None or not instance.our_name or not instance.address:
            return None
        login = login_key(self._home, PROVIDER)
        return SSHAccess(
            host=instance.address,
            user=USER,
            host_key=login.host_key(instance.our_name).public,
            identity=login.path,
        )

    def classify(self, error: Exception) -> ProviderError:
        """What Lambda's answers mean, and the failures of getting any."""
        return meaning(error, self._clock.now())

    # -- inside -------------------------------------------------------------------------------

    def _order(self, job: Job, offer: Offer) -> dict[str, object]:
        """The body of a launch; makes the login key and tells Lambda of it where it must."""
        if not offer.region:
            raise SoldOutError(f"no region has {offer.id}")
        if len(job.name) > MOST_NAME:
            raise UnsendableJobError(f"Lambda takes names of {MOST_NAME} characters at most")
        login = login_key(self._home, PROVIDER)
        self._make_known(login)
        body: dict[str, object] = {
            "region_name": offer.region,
            "instance_type_name": offer.id,
            "ssh_key_names": [login.name],  # exactly one
            "name": job.name,
            "user_data": user_data(job, login.host_key(job.name)),
            "tags": [{"key": replies.NAME_TAG, "value": job.name}],
        }
        # A job's image is one of containers, and there is none here: by default the newest of
        # Lambda's own, with driver and torch.
        return {**body, "image": {"family": self._image}} if self._image else body

    def _still_in_time(self, began: float) -> None:
        if (late_s := self._clock.monotonic() - began) > LATEST_S:
            raise TooBusyError(late_s)

    def _make_known(self, login: LoginKey) -> None:
        if self._known_key == login.name:
            return
        known = self._read(replies.SshKeys, "GET", "/ssh-keys").data
        mine = [key for key in known if key.name == login.name]
        if any(key.public_key.split()[:2] != login.public.split() for key in mine):
            raise CredentialsError(
                f"the SSH key {login.name} at Lambda is not the one in {login.path}",
                mend="delete it there: https://cloud.lambda.ai/ssh-keys",
            )
        if not mine:
            self._turn(REQUEST)
            self._call("POST", "/ssh-keys", {"name": login.name, "public_key": login.public})
        self._known_key = login.name

    def _instance(self, machine_id: str) -> replies.Instance | None:
        if quote(machine_id, safe="") != machine_id or not machine_id.strip("."):
            # No id that Lambda gives, and no segment of a path: so it is looked for in the list.
            found = self._read(replies.Instances, "GET", "/instances").data
            return next((one for one in found if one.id == machine_id), None)
        try:
            instance = self._read(replies.OneInstance, "GET", f"/instances/{machine_id}").data
        except StatusError as error:
            if error_code(error) == "global/object-does-not-exist":
                return None
            raise
        if instance.id != machine_id:
            raise ReplyError("the answer is about another machine")
        return instance

    def _read(self, kind: type[T], method: str, path: str) -> T:
        self._turn(REQUEST)
        return replies.read(kind, self._call(method, path))

    def _turn(self, *kinds: str) -> None:
        self._ready()[1].wait(*kinds)

    def _call(self, method: str, path: str, body: object = None) -> object:
        return self._ready()[0].call(method, f"/api/v1{path}", body=body).json()

    def _ready(self) -> tuple[HttpClient, Turns]:
        """Client and turns, made at the first call: without a key that is where it is missed."""
        with self._lock:
            if self._parts is None:
                key = bearer(self._key, "LAMBDA_API_KEY")
                client = HttpClient(self._endpoint, authorization=key, total_s=self._call_s)
                turns = turns_for(self._key, self._home, self._limits, self._clock)
                self._parts = client, turns
            return self._parts
