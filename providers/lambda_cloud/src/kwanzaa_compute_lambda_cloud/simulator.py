"""`LambdaSimulator`: Lambda's REST API on loopback, over machines that run their `user_data`."""

import base64
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.testing.loopback import Command, LoopbackCloud, Reply, Request, WireServer
from kwanzaa_compute.testing.simcloud import SimMachine, State
from kwanzaa_compute.testing.weather import (
    Faults,
    RateLimitedError,
    SimError,
    SoldOutError,
    TimedOutError,
    UnknownOfferError,
    Weather,
)
from kwanzaa_compute_lambda_cloud.cloud_init import parse
from kwanzaa_compute_lambda_cloud.user_data import MOST_BYTES
from kwanzaa_compute_lambda_cloud.wares import REGIONS, WARES, Ware

PACE = 0.01
"""In a simulation a second of Lambda's limits is a hundredth."""
JITTER_S = 0.3
"""So much closer together than they were sent may calls arrive; on average they may not."""
SIMULATED = Weather(boot_s=(0.2, 0.2), preempted_stays=1.0)
"""A machine that was taken back is shown as `preempted` until somebody ends it."""

_USER_DATA = "user-data.txt"
_STATUS = {
    State.STARTING: "booting",
    State.RUNNING: "active",
    State.EXITED: "active",  # whatever became of its command, the machine stands there and bills
    State.STOPPED: "preempted",
    State.ENDING: "terminating",
    State.ENDED: "terminated",
}
_TOO_MANY = RateLimitedError(retry_after_s=1)


class LambdaSimulator:
    """One account. `cloud` is the truth about its machines, `server` the wire in front of it."""

    store_url = None

    def __init__(
        self,
        folder: Path,
        *,
        wares: Sequence[Ware] = WARES,
        weather: Weather = SIMULATED,
        faults: Faults | None = None,
        pace: float = PACE,
    ) -> None:
        """Sells `wares`. Whoever asks more often than Lambda allows, times `pace`, gets a 429."""
        key = f"secret_simulated_{secrets.token_hex(16)}"
        self.environment: Mapping[str, str] = {
            "LAMBDA_API_KEY": key,
            "KWANZAA_LAMBDA_PACE": str(pace),
        }
        self._key = key
        self._folder, self._weather, self._faults = folder, weather, faults
        self._pauses = {"request": 1.0 * pace, "launch": 12.0 * pace}
        self.wares = {ware.name: ware for ware in wares}
        self.ssh_keys: dict[str, dict[str, str]] = {}
        self._free_at = {"request": 0.0, "launch": 0.0}

    def __enter__(self) -> Self:
        places = [place for ware in self.wares.values() for place in ware.places()]
        self.cloud = LoopbackCloud(places, self._folder, weather=self._weather, faults=self._faults)
        self.server = WireServer(self._answer, on_error=_error_of)
        self.endpoint = self.server.url
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.cloud.close()

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """Its machines boot at once, are seen at once, and see this machine's files."""
        return replace(
            info,
            simulated=True,
            store_schemes=(*info.store_schemes, "file"),
            settle_s=1.0,
            boot_s=120.0,
            stop_reserve_s=30.0,
        )

    # -- the wire -----------------------------------------------------------------------------

    def _answer(self, request: Request) -> Reply:
        path = request.path.removeprefix("/api/v1").strip("/")
        refusal = self._refusal(request, path)
        if refusal is not None:
            return refusal
        routes: dict[tuple[str, str], Callable[[Any], Reply]] = {
            ("GET", "instance-types"): lambda _: _data(self._instance_types()),
            ("GET", "instances"): lambda _: _data([self._shown(m) for m in self.cloud.listing()]),
            ("POST", "instance-operations/launch"): self._launch,
            ("POST", "instance-operations/terminate"): self._terminate,
            ("GET", "ssh-keys"): lambda _: _data(list(self.ssh_keys.values())),
            ("POST", "ssh-keys"): self._add_key,
            ("GET", "file-systems"): lambda _: _data([]),
            ("GET", "regions"): lambda _: _data([_region(name) for name in REGIONS]),
        }
        if request.method == "GET" and path.startswith("instances/"):
            return self._instance(path.removeprefix("instances/"))
        route = routes.get((request.method, path))
        if route is None:
            return _error(404, "global/not-found", "No such route.")
        try:
            body = request.json()
        except ValueError:
            return _invalid("The body is not JSON.")
        return route(body if isinstance(body, dict) else {})

    def _refusal(self, request: Request, path: str) -> Reply | None:
        basic = "Basic " + base64.b64encode(f"{self._key}:".encode()).decode()
        if request.bearer != self._key and request.headers.get("authorization") != basic:
            message = "API key was invalid, expired, or deleted."
            return _error(401, "global/invalid-api-key", message, "Check your API key.")
        kinds = ["request"] + ["launch"] * (path == "instance-operations/launch")
        with self.cloud.at_once():
            now = self.cloud.clock.at
            if any(self._free_at[kind] > now + JITTER_S for kind in kinds):
                return _error_of(_TOO_MANY)
            for kind in kinds:
                self._free_at[kind] = max(now, self._free_at[kind]) + self._pauses[kind]
        return None

    def _instance_types(self) -> dict[str, Any]:
        with self.cloud.at_once() as sim:
            return {
                ware.name: {
                    "instance_type": ware.shape(),
                    "regions_with_capacity_available": [
                        _region(region)
                        for region in ware.regions
                        if sim.has_capacity(sim.places[ware.name, region])
                    ],
                }
                for ware in self.wares.values()
            }

    def _launch(self, body: Mapping[str, Any]) -> Reply:
        kind, region, keys = (
            body.get(part) for part in ("instance_type_name", "region_name", "ssh_key_names")
        )
        if not isinstance(kind, str) or not isinstance(region, str) or not isinstance(keys, list):
            return _invalid("A launch names a type, a region and SSH keys.")
        if len(keys) != 1:
            return _invalid("Exactly one SSH key must be specified.")
        if keys[0] not in {key["name"] for key in self.ssh_keys.values()}:
            return _unknown("SSH key")
        name, text = body.get("name") or "", body.get("user_data") or ""
        if len(name) > 64 or len(text.encode()) > MOST_BYTES:  # noqa: PLR2004 -- as described
            return _invalid("The name or the user data is too long.")
        command = _command(text, {"ssh_key_names": keys, "tags": body.get("tags") or []})
        return _data({"instance_ids": [self.cloud.create(name, (kind, region), command)]})

    def _terminate(self, body: Mapping[str, Any]) -> Reply:
        ids = body.get("instance_ids")
        if not isinstance(ids, list):
            return _invalid("instance_ids is missing.")
        shown = {machine.id: machine for machine in self.cloud.listing()}
        if not ids or any(machine_id not in shown for machine_id in ids):
            return _error(404, "global/object-does-not-exist", "Specified instance does not exist.")
        before = [self._shown(shown[machine_id]) for machine_id in ids]
        for machine_id in ids:
            self.cloud.terminate(machine_id)
        return _data({"terminated_instances": [{**one, "status": "terminating"} for one in before]})

    def _add_key(self, body: Mapping[str, Any]) -> Reply:
        name, public = body.get("name"), body.get("public_key")
        if not isinstance(name, str) or not isinstance(public, str):
            return _invalid("This simulation stores keys and makes none.")
        if any(key["name"] == name for key in self.ssh_keys.values()):
            return _error(400, "global/invalid-parameters", "This SSH key name is taken.")
        key = {"id": secrets.token_hex(16), "name": name, "public_key": public}
        self.ssh_keys[key["id"]] = key
        return _data(key)

    def _instance(self, machine_id: str) -> Reply:
        machine = self.cloud.look(machine_id)
        if machine is None:
            return _error(404, "global/object-does-not-exist", "Specified instance does not exist.")
        return _data(self._shown(machine))

    def _shown(self, machine: SimMachine) -> dict[str, Any]:
        extra = machine.command.extra if isinstance(machine.command, Command) else {}
        offer = machine.place.offer
        shown: dict[str, Any] = {
            "id": machine.id,
            "name": machine.name,
            "status": _STATUS[machine.state],
            "ssh_key_names": extra.get("ssh_key_names", []),
            "file_system_names": [],
            "region": _region(offer.region),
            "instance_type": self.wares[offer.id].shape(),
            "actions": {
                action: {"available": True}
                for action in ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
            },
            "tags": extra.get("tags", []),
        }
        if machine.state is not State.STARTING:
            shown |= {
                "ip": "127.0.0.1",
                "private_ip": "10.0.2.100",
                "hostname": "127-0-0-1",
                "jupyter_token": "simulated",
                "jupyter_url": "https://jupyter-simulated.lambdaspaces.com/?token=simulated",
            }
        return shown


def _command(text: str, extra: Mapping[str, object]) -> Command:
    """What a machine with this user data runs; with none that is a config it stands there idle."""
    try:
        parse(text)
    except Exception:  # noqa: BLE001 -- cloud-init leaves alone what it does not understand
        return Command(("sleep", "infinity"), extra=extra)
    return Command(
        (sys.executable, "-m", "kwanzaa_compute_lambda_cloud.cloud_init", _USER_DATA),
        files={_USER_DATA: text.encode()},
        extra=extra,
    )


def _region(name: str) -> dict[str, str]:
    return {"name": name, "description": REGIONS[name]}


def _data(data: object) -> Reply:
    return Reply(200, {"data": data})


def _error(status: int, code: str, message: str, suggestion: str = "") -> Reply:
    said = {"code": code, "message": message}
    return Reply(status, {"error": {**said, "suggestion": suggestion} if suggestion else said})


def _unknown(what: str) -> Reply:
    code = "global/object-does-not-exist"
    return _error(404, code, f"There is no such {what}.", f"Check the name of the {what}.")


def _invalid(message: str) -> Reply:
    return _error(400, "global/invalid-parameters", message)


def _error_of(error: SimError) -> Reply:
    """A cloud's troubles in Lambda's words."""
    match error:
        case SoldOutError():
            message = "Not enough capacity to fulfill launch request."
            return _error(400, "instance-operations/launch/insufficient-capacity", message)
        case UnknownOfferError():
            return _unknown("instance type")
        case RateLimitedError(retry_after_s=wait_s):
            # The description has no 429. That there is one, everybody's clients know.
            reply = _error(429, "global/too-many-requests", str(error))
            return replace(reply, headers={"Retry-After": f"{wait_s:g}"})
        case TimedOutError():
            return Reply(dropped=True)
        case _:
            message = "An internal server error occurred."
            return _error(500, "global/internal-error", message, "Try again later.")
