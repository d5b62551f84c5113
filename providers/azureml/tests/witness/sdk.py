"""What Azure's own SDK, of which nothing is ours, sees of a job. Prints JSON on its last line.

Its one constant that no option reaches is where storage accounts listen.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

from azure.ai.ml import MLClient  # noqa: E402 -- it warns of its own past
from azure.ai.ml.constants import _common  # noqa: E402
from azure.identity import ClientSecretCredential  # noqa: E402

given = json.load(sys.stdin)
_common.STORAGE_ACCOUNT_URLS["AzureBlob"] = f"{given['storage']}/{{}}"
here = given["endpoint"]
names = ("azure_portal", "resource_manager", "active_directory", "aml_resource_id")
metadata = {**dict.fromkeys((*names, "registry_discovery_endpoint"), here), "storage_endpoint": "-"}
verified = {"connection_verify": given["ca_file"]}
client = MLClient(
    ClientSecretCredential(
        *given["principal"], authority=here, disable_instance_discovery=True, **verified
    ),
    *given["workspace"],
    cloud="simulated",
    cloud_metadata=metadata,
    **verified,
)
name = given["job"]
job = client.jobs.get(name)
client.jobs.stream(name)
ended = client.jobs.get(name)
client.jobs.download(name, download_path=given["folder"])
said = {
    "got": [job.name, job.status, job.resources.instance_type, job.queue_settings.job_tier],
    "limit": job.limits.timeout,
    "listed": [one.name for one in client.jobs.list()],
    "ended": ended.status,
    "files": {
        path.name: path.read_text() for path in Path(given["folder"]).rglob("*") if path.is_file()
    },
}
sys.stdout.write("\n" + json.dumps(said))
