"""What a machine is told: the same command everywhere, and the narrowest right to its store."""

import base64
import sys
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from json import dumps
from urllib.parse import urlsplit

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.drivers.contract import Feature, Job, ProviderInfo
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.records import AttemptRecord, RunRecord
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import Store
from kwanzaa_compute.store.folder import CODE
from kwanzaa_compute.store.grants import StoreGrant, addresses, grant

OWN_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    "hf": ("HF_S3_ACCESS_KEY_ID", "HF_S3_SECRET_ACCESS_KEY"),
}
"""The user's own right to a store, which a machine of the user's own may have."""

LOADER = (
    "import base64,os,zlib;"
    "exec(zlib.decompress(base64.b64decode(os.environ['KWANZAA_BOOT'])).decode())"
)
"""The whole of what stands in a rented machine's command: `boot.py` is too long for some."""

MODEL_TOKEN = "KWANZAA_MODEL_TOKEN"  # noqa: S105 -- a variable's name
"""A Hugging Face token that may read models and nothing else, for bases behind a licence."""

WANDB_KEY = "KWANZAA_WANDB_API_KEY"
"""A key of Weights & Biases that machines of runs which report there may have.

One of its own: whoever has `WANDB_API_KEY` in the shell has not said that machines may have it.
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the plan was made for; the trainer refuses a machine that is something else."""

    gpu: str
    gpu_count: int
    vram_gib: float
    disk_gib: float


def job_for(
    run: RunRecord,
    attempt: AttemptRecord,
    info: ProviderInfo,
    environment: Mapping[str, str],
    *,
    offer: Offer,
    disk_gib: float,
    store: Store,
    now: float,
    interruptions_per_h: float = 0.0,
) -> Job:
    """The job of one attempt.

    On a machine that shares this one's files the trainer that is installed here runs, with the
    user's own right to the store: it is the user's own machine. Any other gets the code from the
    store, and a right to the run's folder alone. Raises `CredentialsError` where no such right
    can be made, `StoreError` where the store cannot be asked. From `interruptions_per_h` and from
    how long it sees a save take, the trainer finds how often to save.
    """
    if not run.trains:
        return machine_job(run, attempt, disk_gib=disk_gib)
    told = {
        "KWANZAA_ATTEMPT": str(attempt.number),
        "KWANZAA_INTERRUPTIONS_PER_H": f"{interruptions_per_h:.4f}",
    }
    reports = _reports(run, environment)
    if Feature.SHARES_FILES in info.features:
        return _on_this_disk(run, attempt, environment, told, reports=reports, disk_gib=disk_gib)
    hours = attempt.max_hours
    if Feature.STORE_ROLE in info.features:
        held = StoreGrant(addresses(run.store_url, environment))
    else:
        held = grant(run.store_url, environment, hours=hours, now=now)
    path, sha256 = _code(store)
    wanted = Expected(offer.gpu.name, offer.gpu_count, offer.gpu.vram_gib, disk_gib)
    token = environment.get(MODEL_TOKEN)
    return Job(
        name=attempt.name,
        argv=("python3", "-c", LOADER, "run", run.store_url),
        store_url=run.store_url,
        max_hours=hours,
        env={
            **held.variables,
            **told,
            "KWANZAA_BOOT": boot_text(),
            "KWANZAA_CODE_SHA256": sha256,
            "KWANZAA_EXPECTED": dumps(asdict(wanted)),
            "KWANZAA_MAX_S": f"{hours * 3600:.0f}",
            **({} if reports is None else {"KWANZAA_EXTRAS": "wandb"}),
        },
        secrets={
            **held.secrets,
            "KWANZAA_CODE_URL": store.signed_url(path, hours),
            **({"HF_TOKEN": Secret(token)} if token else {}),
            **(reports or {}),
        },
        disk_gib=disk_gib,
    )


def _reports(run: RunRecord, environment: Mapping[str, str]) -> Mapping[str, Secret] | None:
    """The secrets of a run that reports to W&B (none: by files); None where it does not."""
    try:
        wanted = TrainingConfig.model_validate_json(run.config).writes_wandb
    except ValueError:  # a config that this version no longer knows
        wanted = False
    if not wanted:
        return None
    key = environment.get(WANDB_KEY)
    return {"WANDB_API_KEY": Secret(key)} if key else {}


@cache
def boot_text() -> str:
    """`boot.py`, packed so that it fits into one variable and needs no quotes."""
    source = files("kwanzaa_compute.runs").joinpath("boot.py").read_bytes()
    return base64.b64encode(zlib.compress(source, 9)).decode()


def _on_this_disk(
    run: RunRecord,
    attempt: AttemptRecord,
    environment: Mapping[str, str],
    told: Mapping[str, str],
    *,
    reports: Mapping[str, Secret] | None,
    disk_gib: float,
) -> Job:
    scheme = urlsplit(run.store_url).scheme
    secrets = (*OWN_VARIABLES.get(scheme, ()), "HF_TOKEN")
    return Job(
        name=attempt.name,
        argv=(sys.executable, "-m", "kwanzaa_trainer", "run", run.store_url),
        store_url=run.store_url,
        max_hours=attempt.max_hours,
        env={**told, **addresses(run.store_url, environment)},
        secrets={
            **{n: Secret(environment[n]) for n in secrets if environment.get(n)},
            **(reports or {}),
        },
        disk_gib=disk_gib,
    )


def _code(store: Store) -> tuple[str, str]:
    """Where the code lies in the run's folder, and its sha256, which is its name."""
    found = [item.path for item in store.list(CODE) if item.path.endswith(".zip")]
    if len(found) != 1:
        raise StoreError(f"the run's folder holds no code to run in {CODE}/")
    return found[0], found[0].rpartition("/")[2].removesuffix(".zip")


def machine_job(run: RunRecord, attempt: AttemptRecord, *, disk_gib: float) -> Job:
    """The job of a machine to look around on: to be there, until its time is up.

    It gets no right to any store, and no secret.
    """
    return Job(
        name=attempt.name,
        argv=("sleep", f"{attempt.max_hours * 3600:.0f}"),
        store_url=run.store_url,
        max_hours=attempt.max_hours,
        disk_gib=disk_gib,
    )
