"""Torch's allocator on a driver that may not let its pieces of memory grow."""

import os
from collections.abc import Callable, MutableMapping

VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"
GROWING = "expandable_segments:True"
FIXED = "expandable_segments:False"
"""In torch's own words."""


def ask_for_growing(environ: MutableMapping[str, str] = os.environ) -> None:
    """Before torch is imported: with pieces of a fixed size a tenth of a small card lies idle."""
    environ.setdefault(VARIABLE, GROWING)


def keep_what_works(
    allocate: Callable[[], object] | None = None,
    configure: Callable[[str], None] | None = None,
    environ: MutableMapping[str, str] = os.environ,
) -> str:
    """Goes back to pieces of a fixed size where the driver refuses to let them grow.

    Some virtual machines' and sandboxes' drivers lack that part of CUDA, and say so at the first
    tensor. Returns the driver's words, or "" where all is well. Raises what `allocate` raises
    where fixed pieces do not help either.
    """
    if GROWING not in environ.get(VARIABLE, ""):
        return ""
    allocate, configure = allocate or _allocate, configure or _configure
    try:
        allocate()
    except RuntimeError as error:
        environ[VARIABLE] = environ[VARIABLE].replace(GROWING, FIXED)
        configure(FIXED)
        allocate()
        return str(error).partition("\n")[0]
    return ""


def _allocate() -> None:
    import torch

    torch.ones(1, device="cuda").item()


def _configure(setting: str) -> None:
    import torch

    torch.cuda.memory._set_allocator_settings(setting)  # noqa: SLF001 -- there is no public way
