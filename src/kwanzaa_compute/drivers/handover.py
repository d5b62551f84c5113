"""A run that a person starts by hand, where no program may rent a machine: what it is handed."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Handover:
    """Everything that a machine needs to train a run, and no secret.

    `argv` is what every machine runs, without the store's URL, which comes last. `store_url` is
    where the run's folder is; "" where the machine keeps it itself, and then `files` are what
    lies in it at the start. `needed` and `optional` name the variables whose values the machine's
    owner has to give it: the right to the store, and to base models behind a licence.
    """

    run_id: str
    title: str
    argv: tuple[str, ...]
    code: bytes
    """The library and the trainer as one archive."""
    env: Mapping[str, str] = field(default_factory=dict)
    store_url: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    vram_gib: float = 0.0
    """What the run needs of its GPU, in GiB."""
    gpu: str | None = None
    """The GPU or family that somebody asked for; None leaves the choice open."""
    publish_at: str = ""
    """Where it will be published, as OWNER/REPOSITORY[/BRANCH[/PATH]]; "" where it will not."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """A notebook as text, the GPU that it asks for, and the link that opens it ("" for none)."""

    text: str
    gpu: str
    link: str = ""
