"""Runs on `lambda-ai-cloud-api-client` 2.4.1, generated from the description of API 1.8.3."""

import json
import sys

import httpx
from lambda_ai_cloud_api_client.api.instances import (
    get_instance,
    launch_instance,
    list_instance_types,
    list_instances,
    terminate_instance,
)
from lambda_ai_cloud_api_client.api.ssh_keys import add_ssh_key
from lambda_ai_cloud_api_client.client import AuthenticatedClient
from lambda_ai_cloud_api_client.models import (
    AddSSHKeyRequest,
    InstanceLaunchRequest,
    InstanceTerminateRequest,
    PublicRegionCode,
)

endpoint, key, user_data = sys.argv[1:]
client = AuthenticatedClient(base_url=endpoint, token=key, timeout=httpx.Timeout(20))
public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICN+lJwsONkwrdsSnQsu1ydUkIuIg5oOC+Eslvmtt60T"


def asked(call, **more):
    answer = call.sync_detailed(client=client, **more)
    if answer.status_code != 200:
        sys.exit(f"{call.__name__}: {answer.status_code} {answer.content!r}")
    return answer.parsed.data


types = asked(list_instance_types)
asked(add_ssh_key, body=AddSSHKeyRequest(name="witness", public_key=public))
order = InstanceLaunchRequest(
    region_name=PublicRegionCode.US_EAST_1,
    instance_type_name="gpu_1x_a10",
    ssh_key_names=["witness"],
    name="witness",
    user_data=user_data,
)
launched = asked(launch_instance, body=order).instance_ids
listed = asked(list_instances)
one = asked(get_instance, id=launched[0])
ended = asked(terminate_instance, body=InstanceTerminateRequest(instance_ids=launched))
said = {
    "types": sorted(types.to_dict()),
    "launched": launched,
    "listed": [instance.name for instance in listed],
    "one": one.id,
    "terminated": [str(instance.status.value) for instance in ended.terminated_instances],
}
sys.stdout.write(json.dumps(said))
