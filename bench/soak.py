"""Plays hostile schedules, and ends with the line `N schedules, V violations`.

    python bench/soak.py --seeds 10000 [--start 0] [--seconds 3600] [--disk FOLDER]

Exit status 1 where an invariant was broken; the seed is printed with its shrunk schedule.
"""

import argparse
import sys
import time
from pathlib import Path

from kwanzaa_compute.testing.hostile import Outcome, shrink, survive
from kwanzaa_compute.testing.schedules import draw

SHOWN = 3
"""So many violations are shrunk and shown; the rest are counted."""


def main(argv: list[str] | None = None) -> int:
    """Plays the schedules and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--disk", type=Path, help="keep the ledgers in this folder, on disk")
    options = parser.parse_args(argv)
    played = violations = 0
    began = time.monotonic()
    for seed in range(options.start, options.start + options.seeds):
        if time.monotonic() - began > options.seconds:
            break
        outcome = survive(draw(seed), folder=options.disk)
        played += 1
        if outcome.violations:
            violations += 1
            if violations <= SHOWN:
                show(outcome)
    say(f"{(time.monotonic() - began) / max(played, 1) * 1000:.1f} ms a schedule")
    say(f"{played} schedules, {violations} violations")
    return 1 if violations else 0


def show(outcome: Outcome) -> None:
    """Prints a seed, what it broke, and the smallest schedule that breaks it still."""
    smallest = shrink(outcome)
    say(f"seed {outcome.schedule.seed}: {'; '.join(outcome.violations)}")
    say(f"schedule: {outcome.schedule}")
    say(f"shrunk from {len(outcome.strikes)} strikes to {len(smallest.strikes)}:")
    say(f"  {smallest.strikes}")
    say(f"  {'; '.join(smallest.violations)}")
    say(smallest.log)


def say(line: str) -> None:
    """One line for whoever reads the output."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
