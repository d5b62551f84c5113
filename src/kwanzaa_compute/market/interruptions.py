"""What it means that a machine may be taken back: lost work, and when to save.

Times in seconds, rates an hour. Pure arithmetic after Young and Daly.
"""

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


def expected_with_interruptions(
    useful_s: float, restart_s: float, save_s: float, interval_s: float, interruptions_per_h: float
) -> float:
    """Expected machine seconds for useful work, its checkpoints and the set-ups it takes.

    Daly's complete model: every interruption loses the work since the last checkpoint and costs a
    whole new set-up, which may be interrupted itself.
    """
    pieces = useful_s / interval_s
    if interruptions_per_h < NEVER or useful_s <= 0:
        return useful_s + pieces * save_s + restart_s
    mean_s = 3600 / interruptions_per_h
    # Beyond e^200 the run never ends anyway, and floats would overflow.
    restart, piece = min(restart_s / mean_s, 200.0), min((interval_s + save_s) / mean_s, 200.0)
    return mean_s * (math.expm1(restart) + math.exp(restart) * math.expm1(piece) * pieces)


_MANY = 200
"""Beyond so many expected interruptions a normal distribution serves as well."""


def interruptions_at(quantile: float, mean: float) -> int:
    """How many interruptions are not exceeded with that probability, if `mean` are expected."""
    if mean <= 0:
        return 0
    if mean > _MANY:
        return math.ceil(mean + 4 * math.sqrt(mean))
    term = math.exp(-mean)
    total, count = term, 0
    while total < quantile and count < 10 * _MANY:
        count += 1
        term *= mean / count
        total += term
    return count
