"""`HubSimulator`: the Hugging Face Hub on 127.0.0.1, for the unmodified huggingface_hub client."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Self

from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.testing.loopback.cloud import QUICK
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import Faults, Weather
from kwanzaa_compute_huggingface.simulator.answers import HubError, Route, timestamp, trouble
from kwanzaa_compute_huggingface.simulator.cloud import HubCloud
from kwanzaa_compute_huggingface.simulator.events import events
from kwanzaa_compute_huggingface.simulator.flavours import places
from kwanzaa_compute_huggingface.simulator.jobs import SimulatedJobs, is_job
from kwanzaa_compute_huggingface.simulator.repositories import Repositories
from kwanzaa_compute_huggingface.simulator.spaces import SimulatedSpaces

USER = "loopback"
TOKEN = "hf_simulatedtokenofnobody"  # noqa: S105 -- opens nothing but this simulation
REFUSED = "Invalid credentials in Authorization header"


class HubSimulator:
    """Repositories, Jobs and Spaces with their hardware, over one `HubCloud` that runs them.

    `tokens` maps each valid token to its user; take one out to revoke it. `credit_usd` is what
    may still be spent (None: any amount). `holds_streams_s`: for so long a log of something that
    runs is held open, as the Hub does.
    """

    store_url: str | None = None
    environment: Mapping[str, str] = {"HF_TOKEN": TOKEN, "HF_NAMESPACE": USER}

    def __init__(
        self, folder: Path, *, weather: Weather = QUICK, faults: Faults | None = None
    ) -> None:
        """A Hub with one user and nothing else."""
        self._folder, self._weather, self._faults = folder, weather, faults
        self.endpoint = ""
        self.tokens = {TOKEN: USER}
        self.credit_usd: Decimal | None = None
        self.holds_streams_s = 0.0

    def __enter__(self) -> Self:
        self.cloud = HubCloud(places(), self._folder, self._weather, self._faults)
        self.jobs = SimulatedJobs(self)
        self.spaces = SimulatedSpaces(self)
        self.repositories = Repositories(self, self.spaces.changed)
        self.cloud.on_start = self._started
        routes = [("GET", r"/api/whoami-v2", self._whoami), *self.jobs.routes, *self.spaces.routes]
        self._routes: list[Route] = [*routes, *self.repositories.routes]
        self.server = WireServer(self._handle, on_error=trouble)
        self.endpoint = self.server.url
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.repositories.close()
        self.cloud.close()

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """The same promises in a simulation's times; its machines reach this machine's files."""
        return replace(
            info,
            simulated=True,
            settle_s=1.0,
            boot_s=600.0,
            stop_reserve_s=30.0,
            store_schemes=(*info.store_schemes, "file"),
        )

    # -- who may do what ----------------------------------------------------------------------

    def user_of(self, request: Request) -> str:
        """Who asks; 401 where the token is none of ours."""
        user = self.tokens.get(request.bearer)
        if user is None:
            raise HubError(401, REFUSED)
        return user

    def may_see(self, request: Request, name: str) -> bool:
        """Whether whoever asks may see a private repository of that name."""
        return self.tokens.get(request.bearer) == name.partition("/")[0]

    def must_be_allowed(self, request: Request, namespace: str) -> None:
        """403 where whoever asks may not act in a namespace."""
        if self.user_of(request) != namespace:
            raise HubError(403, "You don't have the required permissions")

    def must_have_credit(self) -> None:
        """402 where nothing may be spent any more."""
        if self.credit_usd is not None and self.cloud.billed_usd >= self.credit_usd:
            raise HubError(402, "Pre-paid credit balance is insufficient: add credits to go on")

    # -- inside -------------------------------------------------------------------------------

    def _whoami(self, request: Request) -> Reply:
        user = self.user_of(request)
        token = {"displayName": "simulated", "role": "write"}
        return Reply(body={"type": "user", "name": user, "id": "0", "auth": {"accessToken": token}})

    def _handle(self, request: Request) -> Reply:
        try:
            return self._answer(request)
        except HubError as error:
            return error.reply

    def _answer(self, request: Request) -> Reply:
        if request.bearer and request.bearer not in self.tokens:
            raise HubError(401, REFUSED)
        for method, path, handler in self._routes:
            found = re.fullmatch(path, request.path) if method == request.method else None
            if found is not None:
                return handler(request, *found.groups())
        raise HubError(404, f"There is no route {request.method} {request.path}")

    def _started(self, machine: SimMachine) -> None:
        if is_job(machine):
            self.jobs.limit(machine)
        else:
            self.spaces.begun(machine)

    def stream(
        self, machine: SimMachine | None, head: list[str], *, tail: int | None = None
    ) -> Iterator[bytes]:
        """A log as a stream of events: what there is, and what comes while it is held open."""
        clock = self.cloud.clock
        ends = clock.elapsed_s + self.holds_streams_s
        lines = [*head, *(self.cloud.room.output(machine.id) if machine else [])]
        yield from events(lines if tail is None else lines[-tail:], timestamp(clock.at))
        while machine is not None and machine.bills and clock.elapsed_s < ends:
            clock.sleep(0.05)
            more = [*head, *self.cloud.room.output(machine.id)][len(lines) :]
            lines += more
            yield from events(more, timestamp(clock.at))
