"""What recovery would have cost on recorded spot capacity, against the best that could be known.

    python examples/trace_study.py --traces DIR [--write | --check]

Replays the policy that the supervisor uses on real traces (DIR, or `KWANZAA_TRACES`) and prints a
table. `--write` puts table and plot into docs/, `--check` fails where they say something else.
The traces are not part of the project; docs/trace-study.md says where they are from.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from trace_chart import chart
from trace_files import Setting, settings

from kwanzaa_compute.testing.replay import AtOnce, Paid, Recovery, Task, replay
from kwanzaa_compute.testing.weather import Place

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PLOT = DOCS / "trace-study.md", DOCS / "trace-study.svg"
JOBS_H = (2.0, 24.0)
DEADLINES = (1.5, 2.0)
SET_UP_S = 585.0
"""From the launch of a machine to its first step: three intervals of the AWS trace."""
_TABLE = re.compile(r"(<!-- table: traces -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One job with one deadline on one set of traces, over many starts. Means in dollars."""

    traces: str
    job_h: float
    deadline: float
    starts: int
    optimum: float
    recovery: float
    on_demand: float
    at_once: float
    missed: int
    missed_at_once: int
    gambled: int
    """Starts at which relaunching at once put the deadline at risk; it is no baseline there."""
    worst: float
    """The most that recovery paid above the cheaper baseline, in restarts."""

    @property
    def gap(self) -> float:
        """How much more recovery paid than the optimum, as a share of it."""
        return self.recovery / self.optimum - 1


def study(traces: Path, *, thinned: int = 1) -> Iterator[Row]:
    """Every row of the table; `thinned` takes only each so-manieth start."""
    for setting in settings(traces):
        for job_h in JOBS_H:
            for deadline in DEADLINES:
                task = Task.of(job_h, deadline, set_up_s=SET_UP_S, step_s=setting.step_s)
                yield _row(setting, job_h, deadline, task, thinned)


def _row(setting: Setting, job_h: float, deadline: float, task: Task, thinned: int) -> Row:
    best: list[float] = []
    ours: list[Paid] = []
    naive: list[Paid] = []
    for places in setting.groups:
        starts = setting.starts(places, job_h)[::thinned]
        best += optimum(places, task, starts).tolist()
        ours += [replay(places, task, Recovery(), start) for start in starts]
        naive += [replay(places, task, AtOnce(), start) for start in starts]
    alone = dollars(setting.on_demand_usd, task.alone, task)
    # A restart: a machine's set-up, and the work since the last checkpoint, at on-demand's price.
    restart = dollars(setting.on_demand_usd, task.set_up + 1, task)
    risky = [paid.gambled or not paid.kept(task) for paid in naive]
    above = [
        (float(paid.usd) - min(alone, alone if risk else float(other.usd))) / restart
        for paid, other, risk in zip(ours, naive, risky, strict=True)
    ]
    return Row(
        setting.name,
        job_h,
        deadline,
        len(ours),
        float(np.mean(best)),
        _mean(ours),
        alone,
        _mean(naive),
        sum(not paid.kept(task) for paid in ours),
        sum(not paid.kept(task) for paid in naive),
        sum(risky),
        max(above),
    )


def _mean(paid: Sequence[Paid]) -> float:
    return float(np.mean([float(one.usd) for one in paid]))


def dollars(usd_per_hour: Decimal, steps: int, task: Task) -> float:
    """What so many steps cost."""
    return float(usd_per_hour) * steps * task.step_s / 3600


def optimum(places: Sequence[Place], task: Task, starts: Sequence[int]) -> np.ndarray:
    """The least that the task can cost by its deadline, for who knows the whole trace.

    Exact, by dynamic programming backwards from the deadline. `idle[s, w]` is the least cost from
    a step on without a machine, with `w` steps of work left, for start `s`; `on[p][s, w]` the same
    on a machine at place `p` that has been set up. A machine can be left at any time, and saves.
    """
    begins = np.asarray(starts)
    nothing_left = np.full((len(begins), task.work + 1), np.inf)
    nothing_left[:, 0] = 0.0
    usd = [dollars(place.offer.usd_per_hour or Decimal(0), 1, task) for place in places]
    there_now = [_there(place, 1) for place in places]
    there_to_boot = [_there(place, task.set_up) for place in places]
    idle = nothing_left
    later = [[nothing_left] * len(places)]  # later[k]: `on` at k + 1 steps from now
    for step in range(task.deadline - 1, -1, -1):
        if len(later) >= task.set_up:
            idle = idle.copy()
            for number, there in enumerate(there_to_boot):
                boots = there[(begins + step) % len(there)]
                launched = later[task.set_up - 1][number] + usd[number] * task.set_up
                np.minimum(idle, np.where(boots[:, None], launched, np.inf), out=idle)
        on = []
        for number, there in enumerate(there_now):
            works = there[(begins + step) % len(there)]
            worked = np.full_like(idle, np.inf)
            worked[:, 1:] = later[0][number][:, :-1] + usd[number]
            on.append(np.minimum(idle, np.where(works[:, None], worked, np.inf)))
        later = [on, *later[: task.set_up - 1]]
    return idle[:, task.work]


def _there(place: Place, count: int) -> np.ndarray:
    """From which steps of its trace a place has a machine during `count` steps on end."""
    if place.trace is None:
        return np.ones(1, dtype=bool)
    now = np.asarray(place.trace.available, dtype=bool)
    return np.all([np.roll(now, -later) for later in range(count)], axis=0)


# -- what it says -----------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, and a last one with the mean gap."""
    columns = (
        "traces",
        ">job",
        ">deadline",
        ">starts",
        ">optimum",
        ">recovery",
        ">gap",
        ">on-demand only",
        ">at once, cheapest",
        ">missed: recovery, at once",
        ">worst start, in restarts",
    )
    lines = [
        "| " + " | ".join(name.lstrip(">") for name in columns) + " |",
        "|" + "|".join("---:" if name.startswith(">") else "---" for name in columns) + "|",
    ]
    for row in rows:
        cells = (
            row.traces,
            f"{row.job_h:g} h",
            f"{row.deadline:g}x",
            f"{row.starts}",
            f"${row.optimum:.2f}",
            f"${row.recovery:.2f}",
            f"{row.gap:.1%}",
            f"${row.on_demand:.2f}",
            f"${row.at_once:.2f}",
            f"{row.missed}, {row.missed_at_once}",
            f"{row.worst:.2f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + means(rows) + "\n"


def means(rows: Sequence[Row]) -> str:
    """The mean gap of each set of traces, in a sentence."""
    names = dict.fromkeys(row.traces for row in rows)
    gaps = {name: np.mean([row.gap for row in rows if row.traces == name]) for name in names}
    said = ", ".join(f"{name} {gap:.1%}" for name, gap in gaps.items())
    risky = sum(row.gambled for row in rows)
    return (
        f"Mean gap to the optimum: {said}; all rows {np.mean([row.gap for row in rows]):.1%}."
        f" Relaunching at once put the deadline at risk at {risky} of"
        f" {sum(row.starts for row in rows)} starts."
    )


def filled(page: str, rows: Sequence[Row]) -> str:
    """The page with its table as the study has it."""
    return _TABLE.sub(lambda found: found[1] + table(rows) + found[2], page)


def main() -> int:
    """Prints the table; writes or checks the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=Path, default=os.environ.get("KWANZAA_TRACES"))
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="update docs/trace-study.*")
    mode.add_argument("--check", action="store_true", help="fail where docs/trace-study.* is stale")
    asked = parser.parse_args()
    if asked.traces is None:
        parser.error("say where the traces are: --traces DIR, or KWANZAA_TRACES")
    rows = list(study(Path(asked.traces)))
    print(table(rows), end="")
    page, plot = filled(PAGE.read_text(encoding="utf-8"), rows), chart(rows)
    if asked.write:
        PAGE.write_text(page, encoding="utf-8")
        PLOT.write_text(plot, encoding="utf-8")
    stale = (page, plot) != (PAGE.read_text(encoding="utf-8"), PLOT.read_text(encoding="utf-8"))
    if asked.check and stale:
        print("docs/trace-study is out of date: make it again with --write", file=sys.stderr)
    return int(asked.check and stale)


if __name__ == "__main__":
    sys.exit(main())
