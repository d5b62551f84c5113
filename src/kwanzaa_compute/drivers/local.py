"""The `local` driver: a machine is a process tree on this very computer. No account, no money."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kwanzaa_compute.config.credentials import names_a_credential
from kwanzaa_compute.drivers.contract import DriverContext, Feature, Job, Phase, Sighting
from kwanzaa_compute.drivers.local_machine import start_time
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError
from kwanzaa_compute.market.gpus import GPU, cpu_device, find_gpu
from kwanzaa_compute.market.offers import Availability, Offer

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PASSED_PREFIXES = ("CUDA", "NVIDIA", "HF_HOME", "HF_HUB", "HF_ENDPOINT", "OMP_", "KWANZAA_")
GIB = 1 << 30


class LocalDriver:
    """Runs each job in a folder of its own below `$KWANZAA_HOME/machines`."""

    features = frozenset(
        {Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.LOGS, Feature.SHARES_FILES}
    )

    def __init__(self, context: DriverContext) -> None:
        """Reads `KWANZAA_HOME` (default `~/.kwanzaa`) from the context's environment."""
        self._environment = context.environment
        self._clock = context.clock
        home = context.environment.get("KWANZAA_HOME") or Path.home() / ".kwanzaa"
        self._machines = Path(home).absolute() / "machines"

    def offers(self) -> Iterable[Offer]:
        """This machine, with each kind of GPU that its driver reports, or its processor."""
        gpus = _gpus_here() or [(cpu_device(_ram_gib()), 1)]
        for gpu, count in gpus:
            yield Offer(
                provider="local",
                id="this-machine",
                gpu=gpu,
                gpu_count=count,
                availability=Availability.AVAILABLE,
                disk_gib=_free_disk_gib(self._machines),
                source="this machine",
                own_machine=True,
            )

    def launch(self, job: Job, offer: Offer) -> str:  # noqa: ARG002 -- there is one machine
        """Starts the job's process tree; its id is the job's name, so a name starts only once."""
        if not _SAFE_NAME.fullmatch(job.name):
            raise InvalidRequestError(
                f"{job.name!r} cannot name a machine", nothing_was_created=True
            )
        folder = self._machines / job.name
        folder.mkdir(parents=True, mode=0o700)
        command = ["-m", "kwanzaa_compute.drivers.local_machine", str(folder)]
        null = ("/dev/null", os.O_RDWR, 0)
        # Not subprocess.Popen: the machine outlives this process, so nobody here waits for it.
        os.posix_spawn(
            sys.executable,
            [sys.executable, *command, str(job.max_hours * 3600), "--", *job.argv],
            self._environment_of(job),
            file_actions=[(os.POSIX_SPAWN_OPEN, fd, *null) for fd in (0, 1, 2)],
            setsid=True,
        )
        return job.name

    def inspect(self, machine_id: str) -> Sighting:
        """RUNNING while its process lives, EXITED with its code, GONE once terminated."""
        folder = self._machines / machine_id
        if not _SAFE_NAME.fullmatch(machine_id) or not folder.is_dir():
            return Sighting(machine_id, Phase.GONE)
        if (folder / "terminated").exists():
            return Sighting(machine_id, Phase.GONE, machine_id)
        ended = _read(folder / "exit.json")
        if ended:
            return Sighting(machine_id, Phase.EXITED, machine_id, exit_code=int(ended["exit_code"]))
        machine = _read(folder / "machine.json")
        if machine is None:
            return Sighting(machine_id, Phase.STARTING, machine_id)
        if _is_alive(machine):
            return Sighting(machine_id, Phase.RUNNING, machine_id)
        # Between our two looks it may have ended in good order.
        ended = _read(folder / "exit.json")
        code = int(ended["exit_code"]) if ended else -int(signal.SIGKILL)
        return Sighting(machine_id, Phase.EXITED, machine_id, exit_code=code)

    def fleet(self) -> Iterable[Sighting]:
        """Every process tree of ours that has not been terminated."""
        if not self._machines.is_dir():
            return []
        return [
            sighting
            for folder in sorted(self._machines.iterdir())
            if (sighting := self.inspect(folder.name)).phase is not Phase.GONE
        ]

    def terminate(self, machine_id: str) -> None:
        """Kills the machine's process tree; what it printed stays readable."""
        folder = self._machines / machine_id
        if not _SAFE_NAME.fullmatch(machine_id) or not folder.is_dir():
            return
        (folder / "terminating").touch()
        machine = _read(folder / "machine.json")
        if machine and _is_alive(machine):
            os.kill(int(machine["pid"]), signal.SIGTERM)
            _reap(int(machine["pid"]))
            if _is_alive(machine):
                return  # still ending: the next call looks again
        (folder / "terminated").touch()

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the machine printed so far."""
        path = self._machines / machine_id / "output.log"
        if not _SAFE_NAME.fullmatch(machine_id) or not path.exists():
            return []
        return path.read_text(errors="replace").splitlines()

    def classify(self, error: Exception) -> ProviderError:
        """A name that exists already was launched before; anything else is this machine's state."""
        if isinstance(error, FileExistsError):
            return TransientError("a machine of that name was started before")
        if isinstance(error, OSError):
            return TransientError(
                f"this machine could not do it: {error.strerror or error}",
                mend="look at free disk space and permissions below ~/.kwanzaa",
            )
        return InvalidRequestError(f"{type(error).__name__}: {error}")

    def _environment_of(self, job: Job) -> dict[str, str]:
        """What a machine gets: enough to run Python, its job's variables, none of our secrets."""
        kept = {
            name: value
            for name, value in self._environment.items()
            if name in _PASSED_ON
            or (name.startswith(_PASSED_PREFIXES) and not names_a_credential(name))
        }
        secrets = {name: secret.reveal() for name, secret in job.secrets.items()}
        return {"PYTHONUNBUFFERED": "1", **kept, **job.env, **secrets}


def _gpus_here() -> list[tuple[GPU, int]]:
    """The NVIDIA GPUs of this machine as (GPU, how many); empty where there is no driver."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: dict[str, tuple[GPU, int]] = {}
    for line in listing.splitlines():
        name = line.split(",")[0].strip()
        gpu = find_gpu(name)
        if gpu:
            found[gpu.name] = (gpu, found.get(gpu.name, (gpu, 0))[1] + 1)
    return list(found.values())


def _ram_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def _free_disk_gib(path: Path) -> float:
    while not path.exists():
        path = path.parent
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize / GIB


def _is_alive(machine: dict[str, Any]) -> bool:
    pid = int(machine["pid"])
    _reap(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return start_time(pid) == str(machine["started"])


def _reap(pid: int) -> None:
    """Takes note of a child that has ended, so that it does not linger as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # started by another process


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
