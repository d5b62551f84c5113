"""REST v2 of a simulated RunPod: its routes, its refusals, its words."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import (
    RateLimitedError,
    SimError,
    SoldOutError,
    TimedOutError,
)
from kwanzaa_compute_runpod.replies import DISK_USD_PER_HOUR
from kwanzaa_compute_runpod.simulated.account import CARDS, COMMUNITY, DATA_CENTERS, SECURE, Card
from kwanzaa_compute_runpod.simulated.checks import faults_of, rule_broken_by
from kwanzaa_compute_runpod.simulated.pods import Pods

SOLD_OUT = (
    "There are no longer any instances available with the requested specifications."
    " Please refresh and try again."
)
FOLLOW_S = 30.0
_RATE_LIMIT = {
    "RateLimit": '"minute";r=58;t=41',
    "RateLimit-Policy": '"minute";q=60;w=60,"hour";q=3000,"day";q=50000',
}
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
_POD = re.compile(r"/v2/pods/(?P<id>.+?)(?P<rest>/logs|/action)?", re.DOTALL)


@dataclass(slots=True)
class RestV2:
    """Answers requests; every refusal is `application/problem+json`."""

    pods: Pods
    closed: threading.Event = field(default_factory=threading.Event)

    def handle(self, request: Request) -> Reply:
        """The answer to one request. What the cloud raises goes through `troubles`."""
        caller = self.pods.account.caller(request.bearer)
        if caller is None:
            return problem(401, "Unauthorized")
        if pod := _POD.fullmatch(request.path):
            if caller not in {"", pod["id"]}:
                return problem(403, "access denied")
            return self._pod(request, pod["id"], pod["rest"] or "")
        return problem(403, "access denied") if caller else self._account(request)

    def _account(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET", "/v2/pods":
                return self._list(request)
            case "POST", "/v2/pods":
                return self._create(request)
            case "GET", "/v2/catalog/gpus":
                return self._catalogue(request)
            case "GET", path if path.startswith("/v2/network-volumes/"):
                return self._volume(path.removeprefix("/v2/network-volumes/"))
        return problem(404, "resource not found")

    # -- one pod ------------------------------------------------------------------------------

    def _pod(self, request: Request, pod_id: str, rest: str) -> Reply:
        machine = self.pods.cloud.look(pod_id)
        if machine is None:
            return problem(404, "pod not found")
        match request.method, rest:
            case "GET", "":
                return ok(self.pods.shown(machine))
            case "GET", "/logs":
                return self._logs(request, machine)
            case "DELETE", "":
                self.pods.cloud.terminate(machine.id)
                return Reply(204, headers=_RATE_LIMIT)
            case "POST", "/action":
                return self._action(request, machine)
        return problem(404, "resource not found")

    def _action(self, request: Request, machine: SimMachine) -> Reply:
        action = (_json(request) or {}).get("action")
        if action not in {"start", "stop", "restart", "terminate"}:
            return problem(422, "Request validation failed.", ["action: not one of the actions"])
        if action not in self.pods.shown(machine)["actions"]:
            return problem(409, f"cannot {action} this pod now")
        if action == "terminate":
            self.pods.cloud.terminate(machine.id)
            return Reply(204, headers=_RATE_LIMIT)
        if action != "stop":
            return problem(400, "There are not enough free GPUs on the host machine.")
        with self.pods.cloud.at_once() as sim:
            sim.stop(machine)
        return ok(self.pods.shown(machine))

    def _logs(self, request: Request, machine: SimMachine) -> Reply:
        tail = int(request.query.get("tail", ["100"])[0])
        headers = {**_RATE_LIMIT, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return Reply(200, self._events(machine, tail), headers)

    def _events(self, machine: SimMachine, tail: int) -> Iterator[bytes]:
        yield _event("system", "container started", self.pods.cloud.clock.at)
        sent = max(0, len(self.pods.cloud.room.output(machine.id)) - tail)
        for _ in range(int(FOLLOW_S / 0.05)):
            lines = self.pods.cloud.room.output(machine.id)
            for line in lines[sent:]:
                yield _event("container", line, self.pods.cloud.clock.at)
            sent = len(lines)
            if self.closed.wait(0.05):
                return

    # -- all pods -----------------------------------------------------------------------------

    def _list(self, request: Request) -> Reply:
        size = self.pods.account.page_size
        cursor = request.query.get("cursor", ["p0"])[0]
        if not re.fullmatch(r"p\d+", cursor):
            return problem(422, "Request validation failed.", ["cursor: malformed"])
        start = int(cursor[1:])
        shown = [self.pods.shown(machine) for machine in self.pods.cloud.listing()]
        more = start + size < len(shown)
        page = {"nextCursor": f"p{start + size}" if more else None, "hasNextPage": more}
        # The published description of August 2026 knows no pages: a list that fits has none.
        pages = {"pagination": page} if more or start else {}
        return ok({"pods": shown[start : start + size], **pages})

    def _create(self, request: Request) -> Reply:
        body = _json(request)
        if faults := faults_of(body):
            return problem(422, "Request validation failed.", faults)
        account = self.pods.account
        if rule := rule_broken_by(body, account.volumes):
            return problem(400, rule)
        if account.balance_usd <= 0:
            return problem(402, "Your balance is too low to start a pod.")
        if body["gpu"]["id"] in account.denied:
            return problem(403, "your account cannot access the requested pool")
        return ok(self.pods.shown(self.pods.create(body)), 201)

    def _volume(self, volume_id: str) -> Reply:
        place = self.pods.account.volumes.get(volume_id)
        if place is None:
            return problem(404, "network volume not found")
        return ok(
            {
                "id": volume_id,
                "name": volume_id,
                "size": 100,
                "dataCenter": place,
                "type": "STANDARD",
            }
        )

    # -- the catalogue ------------------------------------------------------------------------

    def _catalogue(self, request: Request) -> Reply:
        query = request.query
        stock = query.get("include") == ["AVAILABILITY"]
        if stock != ("product" in query):
            return problem(400, "product is required with include=AVAILABILITY, and only with it")
        cloud = query.get("cloud", ["SECURE"])[0].lower()
        floor = query.get("minCudaVersion", [""])[0]
        return ok({"gpus": [self._card(card, stock, cloud, floor) for card in CARDS]})

    def _card(self, card: Card, stock: bool, cloud: str, floor: str) -> dict[str, Any]:  # noqa: FBT001
        shown: dict[str, Any] = {
            "id": card.id,
            "name": card.name,
            "pool": card.pool,
            "manufacturer": card.manufacturer,
            "memory": card.memory,
            "secure": card.usd(SECURE) > 0,
            "community": card.usd(COMMUNITY) > 0,
            "price": {c: float(self._price(card, c)) for c in (SECURE, COMMUNITY)},
            "maxCount": {SECURE: 8, COMMUNITY: 4},
        }
        if stock:
            level = self._level(card, cloud, floor)
            shown["availability"] = level
            if level != "NONE":
                centers = DATA_CENTERS if cloud == SECURE else DATA_CENTERS[1:]
                shown["dataCenters"] = [
                    {"id": c, "name": c, "availability": level} for c in centers
                ]
        return shown

    def _price(self, card: Card, cloud: str) -> Any:
        with self.pods.cloud.at_once() as sim:
            place = sim.places.get((card.id, cloud))
            return card.usd(cloud) if place is None else sim.price(place) - DISK_USD_PER_HOUR

    def _level(self, card: Card, cloud: str, floor: str) -> str:
        with self.pods.cloud.at_once() as sim:
            place = sim.places.get((card.id, cloud))
            there = place is not None and sim.has_capacity(place)
        recent = not floor or [*map(int, (card.cuda or "0").split("."))] >= [
            *map(int, floor.split("."))
        ]
        return "HIGH" if there and recent else "NONE"


def troubles(error: SimError) -> Reply:
    """A simulated cloud's troubles in RunPod's words."""
    match error:
        case RateLimitedError(retry_after_s=after):
            reply = problem(429, "rate limit exceeded for the minute window")
            return Reply(429, reply.body, {**reply.headers, "Retry-After": f"{after:.0f}"})
        case SoldOutError():
            return problem(400, SOLD_OUT)
        case TimedOutError():
            return DROPPED
        case _:
            return problem(500, "Something went wrong. Please try again later or contact support.")


def ok(body: Mapping[str, Any], status: int = 200) -> Reply:
    """A success."""
    return Reply(status, body, _RATE_LIMIT)


def problem(status: int, detail: str, errors: list[str] | None = None) -> Reply:
    """A refusal."""
    body = {"title": _TITLES[status], "status": status, "detail": detail}
    more = {"errors": errors} if errors else {}
    return Reply(
        status, {**body, **more}, {**_RATE_LIMIT, "Content-Type": "application/problem+json"}
    )


def _event(source: str, line: str, at: float) -> bytes:
    entry = {"ts": iso(at), "source": source, "line": line}
    return f"id: {iso(at)}\ndata: {json.dumps(entry)}\n\n".encode()


def _json(request: Request) -> Any:
    try:
        return request.json()
    except ValueError:
        return None
