"""How much of what its GPU can do a run makes use of: MFU, against the card's own measured rate.

A data sheet's rate is reached by no card at its power limit; this very card's is measured, once an
attempt, by the product that it does best. Without a GPU there is no such figure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.market.speed import training_flops_per_token
from kwanzaa_trainer.memory import Case
from kwanzaa_trainer.precision import Device, Precision

WIDTH = 8192
"""Of the square matrices that are multiplied: as in docs/benchmarks. Three of them, soon freed."""
LIMIT_S = 0.3
MOST_PRODUCTS = 100


@dataclass(frozen=True, slots=True)
class Effort:
    """The work of a token, and the rate that the GPUs of the run reach at their best.

    The work is the model's own: forward, and the gradient of activations. What is computed twice
    to save memory is none.
    """

    flops_per_token: float
    ceiling_tflops: float

    def mfu_percent(self, tokens_per_second: float) -> float:
        """The share of the ceiling that so many tokens a second come to."""
        return 100 * tokens_per_second * self.flops_per_token / (self.ceiling_tflops * 1e12)


def effort_of(
    case: Case, lengths: Sequence[int], ceiling_tflops: float | None, processes: int = 1
) -> Effort | None:
    """The effort of a run on samples of these lengths; None without a GPU or a known shape.

    Attention reaches back to the beginning of its own sample and not of its row, so that packed
    samples count for what they are.
    """
    shape = case.shape
    if ceiling_tflops is None or shape is None or not sum(lengths):
        return None
    seen = min(sum(n * n for n in lengths) / sum(lengths), float(case.config.data.max_seq_length))
    recipe = replace(case.recipe(), row_tokens=max(1, round(seen)), checkpointing=False)
    return Effort(training_flops_per_token(shape, recipe), ceiling_tflops * processes)


def measure_ceiling(device: Device, precision: Precision, clock: Clock) -> float | None:
    """TFLOP/s of the GPU's best product in that number format; None without one, or no room."""
    import torch

    if not device.is_gpu:
        return None
    try:
        return _product_rate(device, precision, clock) / 1e12
    except torch.OutOfMemoryError:
        return None
    finally:
        torch.cuda.empty_cache()


def _product_rate(device: Device, precision: Precision, clock: Clock) -> float:
    import torch

    a, b, c = (
        torch.ones(WIDTH, WIDTH, device=device.torch_device, dtype=precision.torch_dtype)
        for _ in range(3)
    )

    def multiply() -> None:
        torch.mm(a, b, out=c)
        torch.cuda.synchronize()

    return best_rate(multiply, 2.0 * WIDTH**3, clock.monotonic)


def best_rate(work: Callable[[], None], flops: float, now: Callable[[], float]) -> float:
    """FLOP/s of the quickest of a few repetitions, the first of which only warms up."""
    work()
    began, best = now(), math.inf
    for _ in range(MOST_PRODUCTS):
        started = now()
        work()
        ended = now()
        best = min(best, ended - started)
        if ended - began >= LIMIT_S:
            break
    return flops / max(best, 1e-9)
