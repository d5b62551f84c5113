"""Runs on `lambda-cloud-client` 1.0.0, which knows Lambda's API as it was in 2023.

Prints what it could do, and by name what it cannot parse of an API that has gone on since.
"""

import json
import sys

import lambda_cloud_client as client
from lambda_cloud_client.models.instance import Instance

endpoint, key = sys.argv[1:]
configuration = client.Configuration(host=f"{endpoint}/api/v1", access_token=key)
api = client.DefaultApi(client.ApiClient(configuration))
said = {}


def tried(what, call):
    try:
        said[what] = call()
    except ValueError as error:  # pydantic 1: what it cannot parse by its own fault
        said[what] = f"cannot parse: {type(error).__name__}"


def launch():
    order = client.LaunchInstanceRequest(
        region_name="us-east-1",
        instance_type_name="gpu_1x_a10",
        ssh_key_names=["witness"],
        name="witness",
    )
    return api.launch_instance(order).data.instance_ids


def read(status):
    plain = {"id": "a", "status": status, "ssh_key_names": [], "file_system_names": []}
    return Instance.from_dict(plain).status


def terminate(ids):
    order = client.TerminateInstanceRequest(instance_ids=ids)
    return [one.status for one in api.terminate_instance(order).data.terminated_instances]


tried("types", lambda: sorted(api.instance_types().data))
public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICN+lJwsONkwrdsSnQsu1ydUkIuIg5oOC+Eslvmtt60T"
tried(
    "key",
    lambda: api.add_ssh_key(client.AddSSHKeyRequest(name="witness", public_key=public)) and "added",
)
tried("launched", launch)
tried("listed", lambda: [one.name for one in api.list_instances().data])
tried("one", lambda: api.get_instance(said["launched"][0]).data.id)
tried("terminated", lambda: terminate(said["launched"]))
tried("status terminating", lambda: read("terminating"))
tried("status preempted", lambda: read("preempted"))
sys.stdout.write(json.dumps(said, default=str))
