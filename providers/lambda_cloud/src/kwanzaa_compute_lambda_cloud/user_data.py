"""What a machine is told at its first boot: a cloud-init document, written by a serializer.

No word of a job ever becomes a part of a shell's line. `runcmd` starts one constant script, which
finds the job's words and variables in a file that only root can read.
"""

import base64
import json
from typing import Any

import yaml

from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.drivers.ssh_keys import HostKey

HEADER = "#cloud-config\n"
MOST_BYTES = 1_000_000
FOLDER = "/opt/kwanzaa"
START = '''\
"""Becomes the job: its words, and its variables beside those that are here."""

import json
import os

folder = os.path.dirname(os.path.abspath(__file__))
path = os.path.join(folder, "job.json")
with open(path, encoding="utf-8") as file:
    job = json.load(file)
os.unlink(path)
os.chdir(folder)
environment = {"HOME": "/root", **os.environ, **job["environment"]}
os.execvpe(job["argv"][0], job["argv"], environment)
'''
"""Runs on the machine's own Python, whatever version that is."""


class UnsendableJobError(Exception):
    """A job that no machine of Lambda can be told; nothing was sent."""


def user_data(job: Job, host_key: HostKey) -> str:
    """The document for one machine. Holds secrets: the job's own, and this machine's host key.

    Raises `UnsendableJobError` for a word or variable that no process can have, or too many.
    """
    environment = {**job.env, **{name: secret.reveal() for name, secret in job.secrets.items()}}
    _check(job, environment)
    told = json.dumps({"argv": list(job.argv), "environment": environment}).encode()
    document = {
        "ssh_deletekeys": True,
        # No host key but the one that is known: where some are given, cloud-init makes none.
        "ssh_keys": {"ed25519_private": host_key.private, "ed25519_public": host_key.public},
        "ssh_pwauth": False,
        "write_files": [
            _file(f"{FOLDER}/start.py", START.encode()),
            _file(f"{FOLDER}/job.json", told),
        ],
        "runcmd": [["python3", f"{FOLDER}/start.py"]],
    }
    text = HEADER + yaml.safe_dump(document, sort_keys=False)
    if len(text.encode()) > MOST_BYTES:
        raise UnsendableJobError("the job's words and variables are longer than Lambda takes")
    return text


def _file(path: str, content: bytes) -> dict[str, Any]:
    return {
        "path": path,
        "owner": "root:root",
        "permissions": "0600",
        "encoding": "b64",
        "content": base64.b64encode(content).decode(),
    }


def _check(job: Job, environment: dict[str, str]) -> None:
    if not job.argv:
        raise UnsendableJobError("a job without a command")
    names = [name for name in environment if not name or "=" in name]
    values = (*job.argv, *environment, *environment.values())
    if names or any("\0" in value for value in values):
        raise UnsendableJobError("a job's word or variable that no process can have")
    try:
        "".join(values).encode()
    except UnicodeEncodeError as error:
        raise UnsendableJobError("a job's word or variable that is no text") from error
