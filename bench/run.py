"""How long a user waits for the first import and for `kwanzaa --help`: whole processes.

    make bench                                  or
    .venv/bin/python bench/run.py --rounds 50

The commands take turns, so that whatever else the machine does falls on all of them alike. The
median is printed, and beside it what a command costs over bare Python. Nothing is asserted: a busy
machine is no regression. What must not be *imported* is asserted by `tests/house/test_imports.py`.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BARE = "bare Python"
COMMANDS = {
    BARE: (sys.executable, "-c", "pass"),
    "import kwanzaa_compute": (sys.executable, "-c", "import kwanzaa_compute"),
    "Compute, errors and config in use": (
        sys.executable,
        "-c",
        "from kwanzaa_compute import Compute, KwanzaaError, TrainingConfig",
    ),
    "kwanzaa --help": (str(Path(sys.executable).with_name("kwanzaa")), "--help"),
}
LIMITS_MS = {"import kwanzaa_compute": 100, "kwanzaa --help": 250}
"""What the project promises: the import over bare Python, the help as a whole."""


def measure_ms(argv: tuple[str, ...]) -> float:
    """The wall time of one whole process, in milliseconds."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - start)


def measure_all(rounds: int) -> dict[str, list[float]]:
    """Every command once a round, after a first round that only fills caches."""
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, argv in COMMANDS.items():
            elapsed = measure_ms(argv)
            if number:
                samples[name].append(elapsed)
    return samples


def report(samples: dict[str, list[float]]) -> None:
    """One line a command: median, spread, difference and ratio to bare Python, the promise."""
    bare = statistics.median(samples[BARE])
    print(f"{'':36}{'median':>9}{'10-90 %':>15}{'over bare':>12}{'ratio':>8}   promise")
    for name, values in samples.items():
        median = statistics.median(values)
        tenths = statistics.quantiles(values, n=10)
        spread = f"{tenths[0]:.0f}-{tenths[-1]:.0f}"
        limit = f"<= {LIMITS_MS[name]} ms" if name in LIMITS_MS else ""
        print(
            f"{name:36}{median:6.0f} ms{spread:>12} ms{median - bare:+9.0f} ms"
            f"{median / bare:8.1f}   {limit}"
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="processes of each kind (20)")
    rounds = parser.parse_args().rounds
    print(f"medians of {rounds} processes each, taking turns; Python {sys.version.split()[0]}")
    report(measure_all(max(2, rounds)))


if __name__ == "__main__":
    main()
