"""What the machine's environment tells the trainer, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.errors import UsageError
from kwanzaa_trainer.preflight import Expected
from kwanzaa_trainer.team import ALONE, Team

LOCAL_HEARTBEAT_S = 1.0
REMOTE_HEARTBEAT_S = 10.0
GIT_HEARTBEAT_S = 300.0
"""A store that takes 128 changes an hour has no more to spare."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How this attempt runs; nothing in here changes what is learnt."""

    attempt: int = 1
    heartbeat_s: float = LOCAL_HEARTBEAT_S
    """Least seconds between two heartbeats in the store."""
    threads: int | None = None
    """CPU threads of torch; None leaves torch's choice, or takes the checkpoint's."""
    work: Path | None = None
    """Scratch folder; None means a temporary one."""
    expected: Expected | None = None
    """What kind of machine this must be; None: whatever it is."""
    cache: Path | None = None
    """Folder of tokenised data that outlives the attempt; None keeps it in the scratch folder."""
    team: Team = ALONE
    """The processes that train this run together; one of them is this one."""
    base: Path | None = None
    """Folder for the base that other adapters use as well; None puts it into the scratch folder."""
    name: str = ""
    """What its lines on stderr begin with, where other adapters speak there too."""
    gpu_gib: float | None = None
    """Take no more than this of the GPU's memory, in GiB; None means what is free."""
    interruptions_per_h: float = 0.0
    """How often the machine is likely to be taken away; 0: it stays."""

    @classmethod
    def from_environment(
        cls, store_url: str, environ: Mapping[str, str] = os.environ
    ) -> "Settings":
        """Reads the `KWANZAA_*` variables. Raises `UsageError` where one is not what it must be."""
        threads = environ.get("KWANZAA_THREADS")
        work = environ.get("KWANZAA_WORK")
        cache = environ.get("KWANZAA_CACHE")
        gpu = environ.get("KWANZAA_GPU_GIB")
        return cls(
            attempt=int(_number(environ, "KWANZAA_ATTEMPT", 1, least=1)),
            heartbeat_s=_number(environ, "KWANZAA_HEARTBEAT_S", _heartbeat_s(store_url)),
            interruptions_per_h=_number(environ, "KWANZAA_INTERRUPTIONS_PER_H", 0),
            threads=int(_number(environ, "KWANZAA_THREADS", 1, least=1)) if threads else None,
            work=Path(work) if work else None,
            team=Team.from_environment(environ),
            expected=Expected.from_environment(environ),
            cache=Path(cache) if cache else None,
            gpu_gib=_number(environ, "KWANZAA_GPU_GIB", 1, least=1) if gpu else None,
        )


def _heartbeat_s(store_url: str) -> float:
    if store_url.startswith("hf://datasets/"):
        return GIT_HEARTBEAT_S
    return LOCAL_HEARTBEAT_S if store_url.startswith("file:") else REMOTE_HEARTBEAT_S


def _number(environ: Mapping[str, str], name: str, default: float, *, least: float = 0) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise UsageError(
            f"{name}={text!r} is not a number of at least {least:g}", mend=f"unset {name}"
        )
    return value
