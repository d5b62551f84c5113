"""Plays hostile schedules, and ends with the line `N schedules, V violations`.

    python bench/soak.py --seeds 10000 [--start 0] [--jobs 2] [--seconds 3600] [--disk FOLDER]

Exit status 1 where an invariant was broken; the seed is printed with its shrunk schedule.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from kwanzaa_compute.testing.hostile import Outcome, shrink, survive
from kwanzaa_compute.testing.schedules import draw

SHOWN = 3
"""So many violations are shrunk and shown; the rest are counted."""
CHUNK = 200
"""So many schedules are handed to a process at once."""
PROGRESS = 10_000


def main(argv: list[str] | None = None) -> int:
    """Plays the schedules and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--disk", type=Path, help="keep the ledgers in this folder, on disk")
    options = parser.parse_args(argv)
    began, played, broken = time.monotonic(), 0, 0
    for count, violating in outcomes(options, began + options.seconds):
        played += count
        if played // PROGRESS > (played - count) // PROGRESS:
            say(f"{played} played after {time.monotonic() - began:.0f} s")
        for outcome in violating:
            broken += 1
            say(f"seed {outcome.schedule.seed}: {'; '.join(outcome.violations)}")
            if broken <= SHOWN:
                show(outcome)
    took_s = time.monotonic() - began
    say(f"{took_s:.0f} s, {took_s / max(played, 1) * 1000:.1f} ms a schedule, {options.jobs} jobs")
    say(f"{played} schedules, {broken} violations")
    return 1 if broken else 0


def outcomes(
    options: argparse.Namespace, until: float
) -> Iterator[tuple[int, tuple[Outcome, ...]]]:
    """How many schedules each chunk has played, and those of them that broke something."""
    end = options.start + options.seeds
    chunks = [range(n, min(n + CHUNK, end)) for n in range(options.start, end, CHUNK)]
    play = partial(play_all, folder=options.disk, until=until)
    if options.jobs == 1:
        yield from map(play, chunks)
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        for chunk in as_completed([pool.submit(play, chunk) for chunk in chunks]):
            yield chunk.result()


def play_all(seeds: range, *, folder: Path | None, until: float) -> tuple[int, tuple[Outcome, ...]]:
    """Plays the schedules of these seeds, as long as there is time."""
    played, violating = 0, []
    for seed in seeds:
        if time.monotonic() > until:
            break
        outcome = survive(draw(seed), folder=folder)
        played += 1
        if outcome.violations:
            violating.append(outcome)
    return played, tuple(violating)


def show(outcome: Outcome) -> None:
    """Prints the schedule of a violation, and the smallest one that breaks something still."""
    smallest = shrink(outcome)
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
