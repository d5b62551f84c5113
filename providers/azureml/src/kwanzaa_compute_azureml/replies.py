"""What a job's status means: pure, and suspicious of every field.

| status | phase |
|---|---|
| NotStarted, Queued | queued: it waits for a machine, and bills nothing |
| Starting, Provisioning, Preparing | starting |
| Running | running |
| any of these before Running, after it has been seen running | preempted: it waits again |
| Finalizing, CancelRequested | stopping |
| Running, on a cluster whose machines were all taken back | preempted |
| Canceled, at its time limit | exited |
| Canceled, because we asked | gone |
| Canceled, and nobody of us asked | preempted: Azure has no status of its own for that |
| Failed, because there was no machine after all | preempted |
| Failed, Completed | exited; gone once we have ended it, or after some time |
| NotResponding, Paused, Unknown, any that we do not know | running: it may bill |

Azure ML keeps a job for ever. One that has ended bills nothing, so it is "gone" after a while.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.drivers.http import cleaned

OURS = re.compile(r"kwz-[A-Za-z0-9-]{1,59}")
"""The names that are ours. Azure ML allows more; so do we not have to quote them anywhere."""
REMEMBERED_S = 600.0
"""For so long after its end a job is seen EXITED, unless we have ended it ourselves."""
ENDED = frozenset({"Completed", "Failed", "Canceled"})

_PHASES: Mapping[str, Phase] = {
    "NotStarted": Phase.QUEUED,
    "Queued": Phase.QUEUED,
    "Starting": Phase.STARTING,
    "Provisioning": Phase.STARTING,
    "Preparing": Phase.STARTING,
    "Running": Phase.RUNNING,
    "Finalizing": Phase.STOPPING,
    "CancelRequested": Phase.STOPPING,
    "Completed": Phase.EXITED,
    "Failed": Phase.EXITED,
    "Canceled": Phase.PREEMPTED,
}
_BEFORE = (Phase.QUEUED, Phase.STARTING)
_EXIT_CODE = re.compile(r"exited with status code (-?\d{1,3})\b|exit code:? (-?\d{1,3})\b")
_NO_MACHINE = re.compile(
    r"AllocationFailed|OverconstrainedAllocation|OutOfCapacity|InsufficientCapacity"
    r"|SkuNotAvailable|ZonalAllocationFailed|does not have enough capacity",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class JobView:
    """What Azure ML says of one job. `cluster`: the one of its own that it runs on.

    `parcel`: the path of its input in the container of runs.
    """

    name: str
    status: str
    cluster: str = ""
    parcel: str = ""
    timeout_s: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What the run history says of a job that has ended; times in seconds since the epoch."""

    reason: str = ""
    started_at: float | None = None
    ended_at: float | None = None


def sighting_of(
    job: JobView, now: float, *, ending: Ending | None = None, ended_by_us: bool, has_run: bool
) -> Sighting:
    """One job at `now`; `has_run`: this process has seen it running before."""
    end = ending or Ending()
    phase = _phase(job, end, has_run=has_run)
    over = ended_by_us or (end.ended_at is not None and now - end.ended_at > REMEMBERED_S)
    if job.status in ENDED and over:
        phase = Phase.GONE
    return Sighting(
        job.name,
        phase,
        job.name,
        exit_code=_exit_code(job.status, end.reason) if phase is Phase.EXITED else None,
        detail=cleaned("; ".join(part for part in (job.status, end.reason) if part)),
    )


def ending_of(details: Any) -> Ending:
    """The run history's details; what they lack, or have in another form, is not known."""
    given = details if isinstance(details, Mapping) else {}
    error = given.get("error")
    inner = error.get("error") if isinstance(error, Mapping) else None
    said = inner if isinstance(inner, Mapping) else {}
    words = [str(said[key]) for key in ("code", "message") if said.get(key)]
    return Ending(
        ": ".join(words), _seconds(given.get("startTimeUtc")), _seconds(given.get("endTimeUtc"))
    )


def _phase(job: JobView, end: Ending, *, has_run: bool) -> Phase:
    phase = _PHASES.get(job.status, Phase.RUNNING)
    if has_run and phase in _BEFORE:
        return Phase.PREEMPTED
    if job.status == "Canceled" and _ran_out_of_time(job, end):
        return Phase.EXITED
    if job.status == "Failed" and _NO_MACHINE.search(end.reason):
        return Phase.PREEMPTED
    return phase


def _ran_out_of_time(job: JobView, end: Ending) -> bool:
    """Azure ML cancels a job at its limit, and says it in no field that is documented."""
    known = job.timeout_s is not None and end.started_at is not None and end.ended_at is not None
    return known and end.ended_at - end.started_at >= job.timeout_s  # type: ignore[operator]


def _exit_code(status: str, reason: str) -> int | None:
    if status == "Completed":
        return 0
    found = _EXIT_CODE.findall(reason)
    return int(next(code for code in found[-1] if code)) if found else None


def _seconds(value: Any) -> float | None:
    """Azure writes seven digits of a second, and no zone where it means UTC."""
    match = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?", str(value))
    try:
        return datetime.fromisoformat(f"{match[0]}+00:00").timestamp() if match else None
    except ValueError:
        return None
