"""Pods over a `LoopbackCloud`: created, shown, and what they get at their first instruction."""

import shlex
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.testing.loopback import Command, LoopbackCloud
from kwanzaa_compute.testing.simcloud import SimMachine, State
from kwanzaa_compute.testing.weather import SoldOutError
from kwanzaa_compute_runpod.replies import DISK_USD_PER_HOUR
from kwanzaa_compute_runpod.simulated.account import CARDS, DATA_CENTERS, SECURE, Account

IDLE = (sys.executable, "-c", "import time; time.sleep(10**8)")
"""What an image runs that is told nothing."""

HOST, SSH = "127.0.0.1", "22/tcp"

_STATUS: Mapping[State, str] = {
    State.STARTING: "STARTING",
    State.RUNNING: "RUNNING",
    State.EXITED: "EXITED",
    State.STOPPED: "EXITED",
    State.ENDING: "RUNNING",
    State.ENDED: "TERMINATED",
}
_ACTIONS: Mapping[str, list[str]] = {
    "STARTING": ["stop", "terminate"],
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "TERMINATED": [],
}


@dataclass(slots=True)
class Pods:
    """What REST and GraphQL have in common."""

    cloud: LoopbackCloud
    account: Account
    folder: Path
    published: dict[str, int] = field(default_factory=dict)
    """The public port that leads to a machine's own 22, by its id."""

    def watch_boots(self) -> None:
        """Gives each machine its own variables before its command starts."""
        boot = self.cloud.sim.on_boot

        def with_variables(machine: SimMachine) -> None:
            if isinstance(machine.command, Command):
                machine.command = replace(
                    machine.command, env={**machine.command.env, **self._variables(machine)}
                )
            boot(machine)

        self.cloud.sim.on_boot = with_variables

    def create(self, body: Mapping[str, Any]) -> SimMachine:
        """Creates a pod from a body that is known to be sound. Raises a `SimError`."""
        gpu, cloud = body["gpu"], body.get("cloud", "SECURE").lower()
        card = next(card for card in CARDS if card.id == gpu["id"])
        floor = gpu.get("minCudaVersion", "0")
        if _numbers(card.cuda) < _numbers(floor) or not card.usd(cloud):
            raise SoldOutError("no host of this kind")
        argv = shlex.split(body.get("args", "")) or IDLE
        command = Command(argv, self._mounted(body), restarts=True, extra=dict(body))
        machine_id = self.cloud.create(body["name"], (card.id, cloud), command)
        return self.cloud.sim.machines[machine_id]

    def shown(self, machine: SimMachine) -> dict[str, Any]:
        """A machine as REST v2 shows it."""
        body: Mapping[str, Any] = getattr(machine.command, "extra", {})
        status = _STATUS[machine.state]
        running = status == "RUNNING"
        return {
            "id": machine.id,
            "name": machine.name,
            "status": status,
            "actions": _ACTIONS[status],
            "image": body.get("image", ""),
            "args": body.get("args", ""),
            "disk": body.get("disk", 10),
            "ports": body.get("ports", []),
            "env": body.get("env", {}),
            "registry": None,
            "mounts": body.get("mounts", {}),
            "gpu": {"id": machine.place.offer.id, "count": 1},
            "cloud": machine.place.offer.region.upper(),
            "dataCenterId": _data_center(machine),
            "cudaVersion": None,
            "ssh": {"proxy": None, "direct": self._direct(machine) if running else None},
            "template": None,
            "cost": float(machine.usd_per_hour - DISK_USD_PER_HOUR) if machine.works else 0.0,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": self._runtime(machine) if running else None,
            "createdAt": iso(machine.created_at),
            "startedAt": None if machine.booted_at is None else iso(machine.booted_at),
        }

    def age_s(self, machine: SimMachine) -> float:
        """Seconds since its container started."""
        since = machine.booted_at
        return 0.0 if since is None else max(0.0, self.cloud.clock.at - since)

    def _direct(self, machine: SimMachine) -> dict[str, Any] | None:
        port = self.published.get(machine.id)
        if port is None:
            return None
        command = f"ssh root@{HOST} -p {port}"
        return {"host": HOST, "port": port, "username": "root", "command": command}

    def _runtime(self, machine: SimMachine) -> dict[str, Any]:
        port = self.published.get(machine.id)
        shown = {"private": 22, "public": port, "type": "tcp", "ip": HOST}
        return {"uptime": int(self.age_s(machine)), "ports": [shown] if port else []}

    def _variables(self, machine: SimMachine) -> dict[str, str]:
        return {
            "RUNPOD_POD_ID": machine.id,
            "RUNPOD_API_KEY": self.account.key_of(machine.id),
            "RUNPOD_DC_ID": _data_center(machine),
            "RUNPOD_GPU_COUNT": "1",
            **self._published(machine),
        }

    def _published(self, machine: SimMachine) -> dict[str, str]:
        """A machine here has no network of its own, so it listens where its public port is."""
        if SSH not in getattr(machine.command, "extra", {}).get("ports", ()):
            return {}
        port = self.published.setdefault(machine.id, _free_port())
        return {
            "RUNPOD_PUBLIC_IP": HOST,
            "RUNPOD_TCP_PORT_22": str(port),
            "KWANZAA_LOGIN_AT": f"{HOST}:{port}",
        }

    def _mounted(self, body: Mapping[str, Any]) -> dict[str, str]:
        """The pod's variables; a path on a network volume is one of a folder here."""
        env = dict(body.get("env", {}))
        for mount in body.get("mounts", {}).get("network", []):
            here = self.folder / "volumes" / mount["volumeId"]
            here.mkdir(parents=True, exist_ok=True)
            for name, value in env.items():
                if value == mount["path"] or value.startswith(f"{mount['path']}/"):
                    env[name] = f"{here}{value[len(mount['path']) :]}"
        return env


def _data_center(machine: SimMachine) -> str:
    body: Mapping[str, Any] = getattr(machine.command, "extra", {})
    wanted = body.get("dataCenterIds") or [DATA_CENTERS[machine.place.offer.region != SECURE]]
    return str(wanted[0])


def _free_port() -> int:
    with closing(socket.create_server((HOST, 0))) as probe:
        return int(probe.getsockname()[1])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if version else ()
