"""The GPUs that a Colab notebook can ask for."""

from collections.abc import Mapping

from kwanzaa_compute.errors import NothingFitsError
from kwanzaa_compute.market.gpus import GPU, find_gpu, gpu_matches, unknown_gpu

NAMES: Mapping[str, str] = {"T4": "T4", "L4": "L4", "A100": "A100-40GB", "H100": "H100"}
"""What Colab calls it, and what we call it, the smallest first. Only a T4 can be had for free."""


def gpus() -> dict[str, GPU]:
    """Every GPU by the name that Colab has for it."""
    return {theirs: find_gpu(ours) or unknown_gpu(ours) for theirs, ours in NAMES.items()}


def choose_gpu(vram_gib: float, wanted: str | None) -> str:
    """The smallest GPU with so much memory (GiB), by Colab's name for it.

    `wanted` is a GPU or family that must be taken. Raises `NothingFitsError`.
    """
    there = {n: g for n, g in gpus().items() if wanted is None or gpu_matches(g, wanted)}
    for name, gpu in there.items():
        if gpu.vram_gib >= vram_gib:
            return name
    named = " or ".join(there) or "none of that name"
    raise NothingFitsError(
        f"this run needs {vram_gib:.1f} GiB of GPU memory, and Colab has {named}"
        + (f" of {max(g.vram_gib for g in there.values()):.1f} GiB at most" if there else ""),
        mend="lower data.max_seq_length, or leave --gpu away",
    )
