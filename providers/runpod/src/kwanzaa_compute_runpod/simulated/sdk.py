"""The GraphQL that RunPod's official SDK 1.12 speaks: its GPUs and its pods."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute.testing.simcloud import SimMachine
from kwanzaa_compute.testing.weather import RateLimitedError, SimError, SoldOutError
from kwanzaa_compute_runpod.simulated.account import CARDS, COMMUNITY, SECURE, Card
from kwanzaa_compute_runpod.simulated.graphql import QueryError, pick, read
from kwanzaa_compute_runpod.simulated.pods import Pods
from kwanzaa_compute_runpod.simulated.rest import SOLD_OUT, troubles


@dataclass(slots=True)
class SdkApi:
    """Answers `POST /graphql`. An error is a 200 with `errors`, as RunPod has it."""

    pods: Pods

    def handle(self, request: Request) -> Reply:
        """The answer to one query."""
        if self.pods.account.caller(request.bearer) != "":
            return Reply(401, {"errors": [{"message": "Unauthorized"}]})
        try:
            asked = read(request.json()["query"])
            return Reply(200, {"data": pick(self._root(), asked)})
        except (QueryError, KeyError, TypeError, ValueError) as error:
            return Reply(200, {"errors": [{"message": str(error)}]})
        except SoldOutError:
            return Reply(200, {"errors": [{"message": SOLD_OUT}]})
        except SimError as error:
            reply = troubles(error)
            limited = isinstance(error, RateLimitedError)
            return reply if limited else Reply(reply.status, b"<html>", dropped=reply.dropped)

    def _root(self) -> dict[str, Any]:
        return {
            "gpuTypes": self._gpu_types,
            "myself": {"id": "user", "pods": lambda _: self._listing(), "networkVolumes": []},
            "pod": lambda given: self._pod(given["input"]["podId"]),
            "podFindAndDeployOnDemand": lambda given: self._deploy(given["input"]),
            "podTerminate": lambda given: self._terminate(given["input"]["podId"]),
            "podStop": lambda given: self._stop(given["input"]["podId"]),
        }

    def _gpu_types(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        wanted = given.get("input", {}).get("id")
        return [_gpu_type(card) for card in CARDS if wanted in {None, card.id}]

    def _listing(self) -> list[dict[str, Any]]:
        return [self._shown(machine) for machine in self.pods.cloud.listing()]

    def _pod(self, pod_id: str) -> dict[str, Any] | None:
        machine = self.pods.cloud.look(pod_id)
        return None if machine is None else self._shown(machine)

    def _deploy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        clouds = ("COMMUNITY", "SECURE") if given["cloudType"] == "ALL" else (given["cloudType"],)
        body = {
            "name": given["name"],
            "image": given["imageName"],
            "gpu": {"id": given["gpuTypeId"]},
            "args": given.get("dockerArgs", ""),
            "disk": given.get("containerDiskInGb", 10),
            "ports": [port for port in given.get("ports", "").split(",") if port],
            "env": {pair["key"]: pair["value"] for pair in given.get("env", ())},
        }
        for cloud in clouds[:-1]:
            try:
                return self._shown(self.pods.create({**body, "cloud": cloud}))
            except SoldOutError:
                continue
        return self._shown(self.pods.create({**body, "cloud": clouds[-1]}))

    def _terminate(self, pod_id: str) -> None:
        if self.pods.cloud.look(pod_id) is None:
            raise QueryError("pod not found to terminate")
        self.pods.cloud.terminate(pod_id)

    def _stop(self, pod_id: str) -> dict[str, Any]:
        machine = self.pods.cloud.look(pod_id)
        if machine is None:
            raise QueryError("pod not found")
        with self.pods.cloud.at_once() as sim:
            sim.stop(machine)
        return self._shown(machine)

    def _shown(self, machine: SimMachine) -> dict[str, Any]:
        """A pod as GraphQL shows it: what is wanted of it, where REST shows what it does."""
        pod = self.pods.shown(machine)
        running = pod["status"] in {"STARTING", "RUNNING"}
        return {
            "id": pod["id"],
            "name": pod["name"],
            "imageName": pod["image"],
            "desiredStatus": "RUNNING" if running else pod["status"],
            "costPerHr": pod["cost"],
            "containerDiskInGb": pod["disk"],
            "dockerArgs": pod["args"],
            "dockerId": None,
            "env": [f"{name}={json.dumps(value)[1:-1]}" for name, value in pod["env"].items()],
            "gpuCount": 1,
            "lastStatusChange": pod["createdAt"],
            "machineId": f"host-{pod['id']}",
            "machine": {"podHostId": f"{pod['id']}-host", "gpuDisplayName": pod["gpu"]["id"]},
            "memoryInGb": 50,
            "podType": "RESERVED",
            "port": None,
            "ports": ",".join(pod["ports"]),
            "uptimeSeconds": int(self.pods.age_s(machine)),
            "vcpuCount": 8,
            "volumeInGb": 0,
            "volumeMountPath": "/workspace",
            "runtime": {"ports": _ports(pod["runtime"])} if pod["runtime"] else None,
        }


def _ports(runtime: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "ip": port["ip"],
            "isIpPublic": True,
            "privatePort": port["private"],
            "publicPort": port["public"],
            "type": port["type"],
        }
        for port in runtime["ports"]
    ]


def _gpu_type(card: Card) -> dict[str, Any]:
    secure, community = float(card.usd(SECURE)), float(card.usd(COMMUNITY))
    cheapest = min(price for price in (secure, community) if price)
    spotless = {"minimumBidPrice": None, "uninterruptablePrice": cheapest}
    return {
        "id": card.id,
        "displayName": card.name,
        "memoryInGb": card.memory,
        "maxGpuCount": 8,
        "manufacturer": "Nvidia" if card.manufacturer == "NVIDIA" else "AMD",
        "cudaCores": 0,
        "secureCloud": secure > 0,
        "communityCloud": community > 0,
        "securePrice": secure,
        "communityPrice": community,
        "oneWeekPrice": None,
        "oneMonthPrice": None,
        "threeMonthPrice": None,
        "communitySpotPrice": None,
        "secureSpotPrice": None,
        "lowestPrice": lambda _given: spotless,
    }
