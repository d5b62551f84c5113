"""A machine with several GPUs: one trainer process for each, started and minded by torchrun.

torchrun's own engine is used as a library, so that what the processes return is not lost: it runs
in the process that the machine was told to start, which learns nothing itself. One that dies takes
the others with it, within half a minute even where they wait for it in the middle of a sum.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, fields
from types import FrameType
from typing import Any

from kwanzaa_compute.errors import UsageError
from kwanzaa_trainer.members import places

FAILED = 1
EXIT_STOPPED = 75
PORT = "29400"
"""Where the first of several machines is met, as torchrun has it by default."""
PORT_VARIABLE = "KWANZAA_MEETING_PORT"
MEETING_S = 1200
"""How long a machine waits for the others: one may have libraries to install."""
SPARED = "SIGHUP"
"""The one signal that is left to torchrun: it must have one."""


@dataclass(frozen=True, slots=True)
class Line:
    """What trains one run together: so many processes on each of so many machines."""

    processes: int
    machines: int = 1
    meets_at: str = ""
    """`host:port` of the first machine; "" where it is the only one."""
    is_first: bool = True
    name: str = ""
    """This machine's, of several: the others reach it by that. The first in order leads."""

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to start: this process learns."""
        return self.processes * self.machines == 1


def line_up(environ: Mapping[str, str] = os.environ) -> Line:
    """What this machine's environment says. A process of torchrun's own is alone.

    Where a provider gives one job several machines, `KWANZAA_MACHINES` names them all, the same
    everywhere, and `KWANZAA_MACHINE` the one in hand. Raises `UsageError` where it is not of them,
    and where `KWANZAA_MEETING_PORT` is no port.
    """
    if "WORLD_SIZE" in environ:
        return Line(1)
    processes = len(places(environ))
    machines = [name for name in environ.get("KWANZAA_MACHINES", "").split(",") if name]
    if len(machines) < 2:  # noqa: PLR2004 -- one machine meets nobody
        return Line(processes)
    mine = environ.get("KWANZAA_MACHINE", "")
    if mine not in machines:
        raise UsageError(
            f"KWANZAA_MACHINE={mine!r} is not one of KWANZAA_MACHINES", mend="set both, or neither"
        )
    return Line(processes, len(machines), _meeting(machines[0], environ), mine == machines[0], mine)


def require_one_machine(environ: Mapping[str, str] = os.environ) -> None:
    """Raises `UsageError` on one of several machines: for what each would do all over again."""
    if environ.get("KWANZAA_MACHINES", "").strip(",").count(","):
        raise UsageError(
            "several adapters are trained on one machine, and this is one of several",
            mend="ask the provider for one machine, or train the adapters in runs of their own",
        )


def _meeting(first: str, environ: Mapping[str, str]) -> str:
    port = environ.get(PORT_VARIABLE) or PORT
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{PORT_VARIABLE}={port!r} is no port", mend=f"unset {PORT_VARIABLE}")
    return f"{first}:{port}"


def launch(line: Line, url: str) -> int:
    """Trains the run in `url` with all of them; returns the exit code, as one process would.

    Passes SIGTERM and SIGINT on, and lets the processes answer in their own time.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    _prepare(os.environ, line)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _pass_on)
    # Its handlers would replace ours, and end in half a minute whatever is still being saved.
    told = "signals_to_handle" in {field.name for field in fields(LaunchConfig)}
    ours: dict[str, Any] = {"signals_to_handle": SPARED} if told else {}
    config = LaunchConfig(
        min_nodes=line.machines,
        max_nodes=line.machines,
        nproc_per_node=line.processes,
        run_id="kwanzaa",
        rdzv_backend="c10d",
        rdzv_endpoint=line.meets_at or "localhost:0",
        rdzv_configs=_patience(line),
        # Ranks go by these: without them by what each machine takes its own name to be.
        local_addr=line.name or None,
        max_restarts=0,
        monitor_interval=0.5,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(),
        **ours,
    )
    try:
        codes = launch_agent(config, train_one, [url])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.stderr.write(f"process {rank} of the run ended with {failure.exitcode}\n")
        return FAILED
    return max(codes.values(), default=0)


def train_one(url: str) -> int:
    """What each process does. Only a failure ends it at once: torchrun then ends the others."""
    from kwanzaa_trainer.__main__ import main

    code = main(["run", url])
    if code not in {0, EXIT_STOPPED}:
        sys.exit(code)
    return code


def _patience(line: Line) -> dict[str, Any]:
    """Machines of one job are not ready at the same time, nor is the first one's name known."""
    if not line.meets_at:
        return {}
    return {"is_host": line.is_first, "read_timeout": MEETING_S, "join_timeout": MEETING_S}


def _prepare(environ: MutableMapping[str, str], line: Line) -> None:
    # Where its config does not say it yet (see `launch`), torch reads it here.
    environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = SPARED
    share = max(1, (os.cpu_count() or 1) // line.processes)
    environ.setdefault("OMP_NUM_THREADS", str(share))


def _pass_on(number: int, _frame: FrameType | None) -> None:
    for child in multiprocessing.active_children():
        with suppress(ProcessLookupError):
            os.kill(child.pid or 0, number)


def see_one_gpu(environ: MutableMapping[str, str]) -> None:
    """Under torchrun each process sees its own GPU alone, as number 0; before torch is used."""
    place = environ.get("LOCAL_RANK")
    if place is None or int(environ.get("WORLD_SIZE", "1")) == 1:
        return
    seen = environ.get("CUDA_VISIBLE_DEVICES")
    devices = seen.split(",") if seen else []
    if devices or seen is None:
        environ["CUDA_VISIBLE_DEVICES"] = devices[int(place)] if devices else place
    environ["LOCAL_RANK"] = "0"
