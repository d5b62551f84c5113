"""The least that the caller needs, as a role of Azure's. The README holds it.

`python -m kwanzaa_compute_azureml.role SUBSCRIPTION GROUP` prints it for `az role definition
create`; with the word `cluster` behind, it may make and delete clusters too. A test compares it
with the calls that the driver truly makes.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

USAGE = "usage: python -m kwanzaa_compute_azureml.role SUBSCRIPTION GROUP [cluster]"
_WORKSPACES = "Microsoft.MachineLearningServices/workspaces"
ACTIONS = (
    "read",
    "computes/read",
    "datastores/read",
    "environments/read",
    "environments/write",
    "experiments/runs/read",
    "jobs/cancel/action",
    "jobs/read",
    "jobs/write",
)
CLUSTER_ACTIONS = ("computes/delete", "computes/listNodes/action", "computes/write")


def role(subscription: str, group: str, *, clusters: bool) -> dict[str, Any]:
    """For who calls: it runs jobs in the workspaces of one resource group, and no more.

    It reads no secret: neither a datastore's nor a key of the workspace's storage.
    """
    actions = (*ACTIONS, *(CLUSTER_ACTIONS if clusters else ()))
    return {
        "Name": "kwanzaa",
        "IsCustom": True,
        "Description": "Runs jobs in Azure ML, sees how they go, and ends them.",
        "Actions": [f"{_WORKSPACES}/{action}" for action in sorted(actions)],
        "NotActions": [],
        "AssignableScopes": [f"/subscriptions/{subscription}/resourceGroups/{group}"],
    }


def main(words: Sequence[str]) -> int:
    """Prints the role; 2 where it is not said for what."""
    match words:
        case [subscription, group]:
            made = role(subscription, group, clusters=False)
        case [subscription, group, "cluster"]:
            made = role(subscription, group, clusters=True)
        case _:
            sys.stderr.write(f"{USAGE}\n")
            return 2
    sys.stdout.write(json.dumps(made, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
