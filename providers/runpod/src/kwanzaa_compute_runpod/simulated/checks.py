"""What REST v2 refuses in the body of a create: by its contract (422), by its rules (400)."""

from collections.abc import Callable, Mapping
from typing import Any

from kwanzaa_compute_runpod.simulated.account import CARDS

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _variables(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value.values()))


def _version(value: Any) -> bool:
    return _text(value) and all(part.isdigit() for part in value.split(".")) and "." in value


_BODY: Mapping[str, Check] = {
    "name": lambda value: _text(value) and bool(value),
    "image": _text,
    "args": _text,
    "disk": _count,
    "env": _variables,
    "ports": _texts,
    "cloud": lambda value: value in {"SECURE", "COMMUNITY"},
    "dataCenterIds": _texts,
    "gpu": lambda value: isinstance(value, dict),
    "mounts": lambda value: isinstance(value, dict),
    "templateId": _text,
    "globalNetworking": lambda value: isinstance(value, bool),
    "startJupyter": lambda value: isinstance(value, bool),
    "startSsh": lambda value: isinstance(value, bool),
    "registry": lambda value: value is None or _text(value),
}
_GPU: Mapping[str, Check] = {
    "id": _text,
    "count": _count,
    "allowedCudaVersions": _texts,
    "minCudaVersion": _version,
}
_NETWORK: Mapping[str, Check] = {"volumeId": _text, "path": _text}


def faults_of(body: Any) -> list[str]:
    """Every way in which a body does not match the contract; empty: it does."""
    if not isinstance(body, dict):
        return ["body: must be an object"]
    found = _faults("", body, _BODY, ("name",))
    if "image" not in body and "templateId" not in body:
        found.append("image: missing")
    if isinstance(body.get("gpu"), dict):
        found += _faults("gpu.", body["gpu"], _GPU, ("id",))
    mounts = body.get("mounts")
    for mount in (mounts.get("network") or []) if isinstance(mounts, dict) else []:
        if isinstance(mount, dict):
            found += _faults("mounts.network.", mount, _NETWORK, tuple(_NETWORK))
        else:
            found.append("mounts.network: must hold objects")
    return found


def rule_broken_by(body: Mapping[str, Any], volumes: Mapping[str, str]) -> str:
    """The rule that a well-formed body breaks, in words; empty: none."""
    if "gpu" not in body:
        return "exactly one of gpu or cpu must be set"
    if body["gpu"]["id"] not in {card.id for card in CARDS}:
        return f"invalid gpu type {body['gpu']['id']}"
    if "disk" not in body:
        return "either a template id or pod configuration parameters must be given"
    for mount in body.get("mounts", {}).get("network", []):
        place = volumes.get(mount["volumeId"])
        if place is None:
            return "invalid network volume"
        if body.get("cloud") == "COMMUNITY" or place not in body.get("dataCenterIds", [place]):
            return "the network volume is not supported in this data center"
    return ""


def _faults(
    where: str, given: Mapping[str, Any], known: Mapping[str, Check], needed: tuple[str, ...]
) -> list[str]:
    found = [f"{where}{name}: missing" for name in needed if name not in given]
    for name, value in given.items():
        if name not in known:
            found.append(f"additional properties '{where}{name}' not allowed")
        elif not known[name](value):
            found.append(f"{where}{name}: has a wrong value")
    return found
