"""What a job's container runs first, on each of its instances: it becomes the job's command there.

It is sent as text in the parcel (see `request`), so it imports nothing but the standard library.
On several instances it tells the command who they all are, and which network joins them: SageMaker
says so in `resourceconfig.json`, and the trainer reads it from variables, as from any provider.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def start(parcel: Path, resources: Path, home: Path) -> None:
    """Becomes the command, so that signals and exit codes are the command's own."""
    job = json.loads(parcel.read_text())
    os.environ.update(job["env"])
    os.environ.update(machines(json.loads(resources.read_text())))
    home.mkdir(parents=True, exist_ok=True)
    os.chdir(home)
    os.execvp(job["argv"][0], job["argv"])  # noqa: S606 -- it is what we are here for


def machines(resources: Mapping[str, Any]) -> dict[str, str]:
    """What the trainer is told of the job's instances; nothing where there is but one."""
    hosts = resources["hosts"]
    if len(hosts) == 1:
        return {}
    told = {"KWANZAA_MACHINES": ",".join(hosts), "KWANZAA_MACHINE": resources["current_host"]}
    network = resources.get("network_interface_name")
    if network:
        told |= {"NCCL_SOCKET_IFNAME": network, "GLOO_SOCKET_IFNAME": network}
    return told


if __name__ == "__main__":
    start(*map(Path, sys.argv[1:]))
