"""Whether a run still learns. What has diverged ends clearly, and leaves no poisoned checkpoint."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kwanzaa_compute.errors import RunError

if TYPE_CHECKING:
    import torch

RUNAWAY_FACTOR = 1.5
RUNAWAY_MARGIN = 2.0
"""Far above the run's first loss: more than a hard batch or a warm-up that is too steep brings."""
RUNAWAY_STEPS = 10
"""How many steps in a row."""
LEAST_LOSS_SCALE = 2.0**-14
"""fp16's loss scale is halved at every overflow; a run below this has skipped dozens of steps."""

MEND = "lower training.learning_rate, or raise training.warmup_ratio"


def is_runaway(loss: float, first: float | None) -> bool:
    """Whether a step's loss is far above the run's first one, and its weights so not to be kept."""
    return first is not None and loss > RUNAWAY_FACTOR * first + RUNAWAY_MARGIN


def require_progress(steps_astray: int, loss: float, first: float | None) -> None:
    """Raises `RunError` where so many steps in a row ran away from the run's first loss."""
    if steps_astray >= RUNAWAY_STEPS:
        raise RunError(
            f"the training diverged: the loss was far above its first value of {first:.3f} for"
            f" {steps_astray} steps in a row, {loss:.3f} in the last",
            mend=MEND,
        )


def require_finite(**values: float) -> None:
    """Raises `RunError` naming the figures where one of them is not a number, or is infinite."""
    if not all(map(math.isfinite, values.values())):
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
        raise RunError(f"the training diverged: {told}", mend=MEND)


def require_loss_scale(scale: float) -> None:
    """Raises `RunError` where fp16's loss scale has shrunk to nothing: no step is taken then."""
    if scale < LEAST_LOSS_SCALE:
        raise RunError(
            f"the training diverged: in fp16 every step overflows, down to a loss scale of {scale}",
            mend=f"{MEND}; or take a GPU that computes in bf16",
        )


def require_sound(parameters: "Mapping[str, torch.Tensor]") -> None:
    """Raises `RunError` where a trained weight is not finite: such weights are never saved."""
    import torch

    for name, value in parameters.items():
        if not bool(torch.isfinite(value).all()):
            raise RunError(f"the training diverged: {name} holds no numbers any more", mend=MEND)
