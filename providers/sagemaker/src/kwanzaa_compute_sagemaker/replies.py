"""What a training job's description means: pure, and suspicious of every field.

| TrainingJobStatus | SecondaryStatus | phase |
|---|---|---|
| InProgress | Pending | queued: it waits for an instance, and bills nothing |
| InProgress | Starting, Downloading, Restarting, Updating ... | starting |
| InProgress | Interrupted | preempted: SageMaker has taken a spot instance back |
| InProgress | Uploading | stopping: our command has ended |
| InProgress | Training, any that we do not know, none | running |
| Stopping | any | stopping |
| Stopped | MaxRuntimeExceeded, MaxWaitTimeExceeded | exited |
| Stopped | any other | gone |
| Failed, with CapacityError in its reason | any | preempted: there was no instance after all |
| Failed, Completed | any | exited; gone once we have ended it, or after some time |
| Deleting | any | gone: only what has ended can be deleted |
| any that we do not know | any | running: it may bill |

AWS keeps a job for ever. One that has ended bills nothing, so it is "gone" to us after a while.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kwanzaa_compute.drivers.contract import Phase, Sighting

OURS = re.compile(r"kwz-[A-Za-z0-9-]{1,59}")
"""The names that are ours. AWS allows letters, digits and dashes, 63 in all."""
REMEMBERED_S = 600.0
"""For so long after its end a job is seen EXITED, unless we have ended it ourselves."""
CAPACITY = "CapacityError"
LONGEST_DETAIL = 300

_STARTING = frozenset(
    {
        "Starting",
        "LaunchingMLInstances",
        "PreparingTrainingStack",
        "Downloading",
        "DownloadingTrainingImage",
        "Restarting",
        "Updating",
    }
)
_OUT_OF_TIME = frozenset({"MaxRuntimeExceeded", "MaxWaitTimeExceeded"})
_EXIT_CODE = re.compile(r"exit code:?\s*(-?\d{1,3})\b", re.IGNORECASE)


def sighting_of(job: Mapping[str, Any], now: float, *, ended_by_us: bool = False) -> Sighting:
    """A job, as `DescribeTrainingJob` or a row of `ListTrainingJobs` shows it, at `now`."""
    status, secondary = str(job.get("TrainingJobStatus")), str(job.get("SecondaryStatus"))
    reason = str(job.get("FailureReason") or "")
    phase = _phase(status, secondary, reason)
    over = ended_by_us or _is_long_ago(job.get("TrainingEndTime"), now)
    if phase is Phase.GONE or (status in {"Completed", "Failed", "Stopped"} and over):
        phase = Phase.GONE
    name = str(job.get("TrainingJobName") or "")
    return Sighting(
        name,
        phase,
        name,
        exit_code=_exit_code(status, reason) if phase is Phase.EXITED else None,
        region="".join(str(job.get("TrainingJobArn") or "").split(":")[3:4]),
        detail=_detail(status, secondary, reason, job),
    )


def billed(job: Mapping[str, Any]) -> str:
    """What AWS says that it bills, in words; "" where it does not say (it does when a job ends).

    A job's cost is its billable seconds, times its instances, at the on-demand rate; spot or not.
    """
    billable, trained = job.get("BillableTimeInSeconds"), job.get("TrainingTimeInSeconds")
    if type(billable) is not int or type(trained) is not int:
        return ""
    count = (job.get("ResourceConfig") or {}).get("InstanceCount")
    each = f" on each of {count} instances" if type(count) is int and count > 1 else ""
    return f"AWS bills {billable} of {trained} s{each}"


def _phase(status: str, secondary: str, reason: str) -> Phase:
    match status:
        case "InProgress":
            return _phase_in_progress(secondary)
        case "Stopping":
            return Phase.STOPPING
        case "Stopped":
            return Phase.EXITED if secondary in _OUT_OF_TIME else Phase.GONE
        case "Failed":
            return Phase.PREEMPTED if CAPACITY in reason else Phase.EXITED
        case "Completed":
            return Phase.EXITED
        case "Deleting":
            return Phase.GONE
    return Phase.RUNNING


def _phase_in_progress(secondary: str) -> Phase:
    match secondary:
        case "Pending":
            return Phase.QUEUED
        case "Interrupted":
            return Phase.PREEMPTED
        case "Uploading" | "Stopping":
            return Phase.STOPPING
    return Phase.STARTING if secondary in _STARTING else Phase.RUNNING


def _is_long_ago(at: Any, now: float) -> bool:
    return isinstance(at, datetime) and now - at.timestamp() > REMEMBERED_S


def _exit_code(status: str, reason: str) -> int | None:
    if status == "Completed":
        return 0
    found = _EXIT_CODE.findall(reason)
    return int(found[-1]) if found else None


def _detail(status: str, secondary: str, reason: str, job: Mapping[str, Any]) -> str:
    said = status if secondary in {status, "None"} else f"{status}: {secondary}"
    return cleaned("; ".join(part for part in (said, reason, billed(job)) if part))


def cleaned(text: str, longest: int = LONGEST_DETAIL) -> str:
    """Somebody else's text on one line, without control characters, cut to a length."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * longest])
    line = " ".join(printable.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
