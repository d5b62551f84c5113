"""How often to save: what the plan assumes, and what the trainer does. Pure."""

import math
from functools import cache

NEVER = 1e-9
"""Interruptions an hour below which there are none: one in a hundred thousand years."""


@cache
def checkpoint_interval_s(save_s: float, interruptions_per_h: float) -> float:
    """The interval between checkpoints that loses least, after Young and Daly; inf if none occur.

    Solves the exact condition of Daly's model, exp(-(t + save) / M) = 1 - t / M with M the mean
    time between interruptions, where Young's sqrt(2 * save * M) is the first approximation.
    """
    if interruptions_per_h < NEVER:
        return math.inf
    mean_s = 3600 / interruptions_per_h
    low, high = 0.0, mean_s
    for _ in range(60):
        middle = (low + high) / 2
        if math.log1p(-middle / mean_s) + (middle + save_s) / mean_s > 0:
            low = middle
        else:
            high = middle
    return max(1.0, (low + high) / 2)
