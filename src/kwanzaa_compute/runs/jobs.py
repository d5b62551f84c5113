"""What a machine is told: the same command everywhere, and the narrowest right to its store."""

import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.contract import Feature, Job, ProviderInfo
from kwanzaa_compute.runs.records import AttemptRecord, RunRecord
from kwanzaa_compute.secret import Secret

STORE_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "file": (),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
}
PLAIN_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "s3": ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"),
}


def job_for(
    run: RunRecord,
    attempt: AttemptRecord,
    info: ProviderInfo,
    environment: Mapping[str, str],
    *,
    disk_gib: float,
    interruptions_per_h: float = 0.0,
) -> Job:
    """The job of one attempt.

    On a machine that shares this one's files the trainer that is installed here runs, with the
    user's own right to the store: it is the user's own machine. From `interruptions_per_h` and
    from how long it sees a save take, the trainer finds how often to save.
    """
    scheme = urlsplit(run.store_url).scheme
    here = Feature.SHARES_FILES in info.features
    secrets = (*STORE_VARIABLES.get(scheme, ()), "HF_TOKEN") if here else ()
    return Job(
        name=attempt.name,
        argv=(sys.executable if here else "python", "-m", "kwanzaa_trainer", "run", run.store_url),
        store_url=run.store_url,
        max_hours=attempt.max_hours,
        env={
            "KWANZAA_ATTEMPT": str(attempt.number),
            "KWANZAA_INTERRUPTIONS_PER_H": f"{interruptions_per_h:.4f}",
            **{n: environment[n] for n in PLAIN_VARIABLES.get(scheme, ()) if n in environment},
        },
        secrets={n: Secret(environment[n]) for n in secrets if environment.get(n)},
        disk_gib=disk_gib,
    )
