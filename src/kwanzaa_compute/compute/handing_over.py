"""A run as a notebook, for a machine that only a person starts."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwanzaa_compute.compute.code import code_archive, upload_code
from kwanzaa_compute.compute.entering import new_run_id
from kwanzaa_compute.compute.inputs import base_folder, upload
from kwanzaa_compute.compute.planning import DEFAULT_MAX_HOURS, Options, Work, load_with, read_work
from kwanzaa_compute.config import LoadedConfig
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.drivers.handover import Handover, Notebook
from kwanzaa_compute.drivers.plugins import write_notebook
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.runs.jobs import LOADER, boot_text
from kwanzaa_compute.store import open_store
from kwanzaa_compute.store.grants import addresses
from kwanzaa_compute.store.objects import relative_paths

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

MOST_BYTES = 64 << 20
"""Most data that is even tried to be packed into a notebook."""
NEEDED = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "az": ("AZURE_STORAGE_SAS_TOKEN",),
    "hf": ("HF_S3_ACCESS_KEY_ID", "HF_S3_SECRET_ACCESS_KEY"),
}
NEEDED_BY_GIT = ("KWANZAA_STORE_TOKEN",)
OPTIONAL = ("HF_TOKEN",)
"""For base models behind a licence."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A notebook, and where the run's folder will be ("" for the owner's own disk)."""

    run_id: str
    notebook: Notebook
    store_url: str


def takes_notebooks(
    compute: "Compute", config: Path | str | LoadedConfig, options: Options
) -> ProviderInfo | None:
    """The one provider that is asked for, where it is one that takes notebooks; else None."""
    named = options.providers or load_with(config, options).config.compute.provider or ()
    info = compute.catalogue.providers.get(named[0]) if len(named) == 1 else None
    return info if info is not None and info.notebook else None


def hand_over(
    compute: "Compute",
    config: Path | str | LoadedConfig,
    options: Options,
    info: ProviderInfo,
    *,
    publish_at: str = "",
) -> HandedOver:
    """A run as a notebook for this provider; nothing is rented, and the ledger has no part in it.

    With a store that is reached over the network config and data go there, with the user's own
    right; without one they travel inside the notebook. Raises `ConfigError` or `DataError` where
    the run could not work, `UsageError` where the notebook would be too large or the store is out
    of reach, `NothingFitsError` where no GPU there is large enough.
    """
    work = read_work(compute, config, options)
    settings = work.loaded.config
    run_id = new_run_id(settings.run.name)
    store_url = _store_url(compute, work.loaded, info, run_id)
    hours = settings.compute.max_hours or DEFAULT_MAX_HOURS
    handover = Handover(
        run_id=run_id,
        title=settings.run.name,
        argv=("python3", "-c", LOADER, "run"),
        code=code_archive(),
        env={
            **addresses(store_url, compute.environment),
            "KWANZAA_ATTEMPT": "next",
            "KWANZAA_BOOT": boot_text(),
            "KWANZAA_MAX_S": f"{hours * 3600:.0f}",
        },
        store_url=store_url,
        files={} if store_url else _files(work),
        needed=_needed(store_url),
        optional=OPTIONAL,
        vram_gib=work.required.vram_gib,
        gpu=settings.compute.gpu,
        publish_at=publish_at,
    )
    notebook = write_notebook(info, handover)  # refuses before anything is sent
    if store_url:
        store = compute.open_store(store_url)
        upload(store, work.loaded, work.files, base_folder(work.loaded))
        upload_code(store)
    return HandedOver(run_id, notebook, store_url)


def _store_url(compute: "Compute", loaded: LoadedConfig, info: ProviderInfo, run_id: str) -> str:
    """Where the run's folder will be; "" where only a folder of this machine was chosen."""
    root = compute.store_root(loaded.config.compute.store)
    scheme = urlsplit(root).scheme
    if scheme not in info.store_schemes:
        reached = ", ".join(f"{name}://" for name in info.store_schemes if name != "file")
        raise UsageError(f"{info.name} does not reach {root}", mend=f"choose a --store: {reached}")
    return "" if scheme == "file" else f"{root}/runs/{run_id}"


def _needed(store_url: str) -> tuple[str, ...]:
    if store_url.startswith("hf://datasets/"):
        return NEEDED_BY_GIT
    return NEEDED.get(urlsplit(store_url).scheme, ())


def _files(work: Work) -> dict[str, bytes]:
    """What lies in the run's folder at its start. Raises `UsageError` where it is too much."""
    base = base_folder(work.loaded)
    paths = [path for path in (work.files.train, work.files.eval) if path is not None]
    paths += [path for path, _ in relative_paths(base)] if base else []
    size = sum(path.stat().st_size for path in paths)
    if size > MOST_BYTES:
        raise UsageError(
            f"{size / 2**20:.0f} MiB of data and base model are too much for a notebook",
            mend="keep them in a store that it reaches: --store s3://bucket/folder",
        )
    with tempfile.TemporaryDirectory(prefix="kwanzaa-") as folder:
        upload(open_store(Path(folder).absolute().as_uri()), work.loaded, work.files, base)
        return {name: path.read_bytes() for path, name in relative_paths(Path(folder))}
