"""Is this the machine that was paid for, and does it work? Asked before anything is downloaded.

A machine that fails is given up at once and another is tried: minutes of a bad machine cost money,
and the run would fail on it in the end anyway.
"""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.errors import KwanzaaError, UsageError
from kwanzaa_compute.market.gpus import GPU, find_gpu
from kwanzaa_compute.store.folder import RunFolder

GIB = 1 << 30
TOLERATED = 0.97
"""A card may report a little less than the table says: firmware and ECC differ."""
QUERY = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


class BadMachineError(KwanzaaError):
    """This machine is not what was sold, or does not work; another one may."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the plan was made for. Memory and disk in GiB."""

    gpu: str
    gpu_count: int
    vram_gib: float
    disk_gib: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Expected | None":
        """What the control side expects; None on a machine of the user's own."""
        text = environ.get("KWANZAA_EXPECTED")
        if not text:
            return None
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise UsageError(
                "KWANZAA_EXPECTED is not what this trainer understands",
                mend="use one version of kwanzaa-compute on both sides",
            ) from error


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as the driver reports it."""

    name: str
    vram_gib: float


def preflight(
    expected: Expected, folder: RunFolder, attempt: int, work: Path, *, machine: int = 0
) -> None:
    """Raises `BadMachineError` with the reason where this machine will not do.

    Checks the GPU's name, number and memory, that torch can use it, free disk below `work`, and
    that the store takes what we write. Takes seconds. `machine` is its number among several: each
    is looked over, and each leaves a file of its own.
    """
    cards = _cards()
    _check_cards(expected, cards)
    _check_torch()
    _check_disk(expected.disk_gib, work)
    found = {"cards": [[card.name, card.vram_gib] for card in cards]}
    name = f"preflight-{machine}.json" if machine else "preflight.json"
    folder.store.put(f"attempts/{attempt}/{name}", json.dumps(found).encode())


def _cards() -> list[Card]:
    try:
        listing = subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadMachineError(f"its GPU driver does not answer: {type(error).__name__}") from error
    cards = []
    for line in listing.stdout.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if mebibytes.strip().isdigit():
            cards.append(Card(name.strip(), int(mebibytes) / 1024))
    return cards


def _check_cards(expected: Expected, cards: list[Card]) -> None:
    machines = os.environ.get("KWANZAA_MACHINES", "").count(",") + 1
    if len(cards) * machines < expected.gpu_count:
        raise BadMachineError(f"it has {len(cards)} GPUs, {expected.gpu_count} were sold")
    sold = find_gpu(expected.gpu)
    for card in cards:
        if card.vram_gib < expected.vram_gib * TOLERATED:
            raise BadMachineError(
                f"its {card.name} has {card.vram_gib:.1f} GiB, {expected.vram_gib:.1f} were sold"
            )
        gpu = find_gpu(card.name, box_gb=math.ceil(card.vram_gib))
        # A name that we do not know yet is judged by its memory alone.
        if gpu is not None and sold is not None and _is_worse(gpu, sold):
            raise BadMachineError(f"its GPU is {card.name}, {expected.gpu} was sold")


def _is_worse(gpu: GPU, sold: GPU) -> bool:
    """Whether a card is less than what was sold; a better one, or another name, is not."""
    return (
        gpu.compute_capability < sold.compute_capability
        or gpu.tflops_fp16 < sold.tflops_fp16 * TOLERATED
        or gpu.bandwidth_tb_s < sold.bandwidth_tb_s * TOLERATED
    )


def _check_torch() -> None:
    if os.environ.get("KWANZAA_SIMULATED_MACHINE"):
        return  # its GPU is make-believe, and torch computes on the processor
    import torch

    if not torch.cuda.is_available():
        raise BadMachineError("torch cannot use its GPU: the driver does not fit the image")


def _check_disk(least_gib: float, work: Path) -> None:
    free_gib = shutil.disk_usage(work).free / GIB
    if free_gib < least_gib * 0.5:
        raise BadMachineError(f"it has {free_gib:.0f} GiB of free disk, {least_gib:.0f} were asked")
