"""The machines of a loopback cloud: process trees with a folder each, none of which outlives us."""

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kwanzaa_compute.market.gpus import GPU

IMAGE_VARIABLES = ("LANG", "LC_ALL", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "HF_HUB_OFFLINE")
NO_LIMIT_S = 10 * 365 * 86_400.0


class MachineRoom:
    """Starts commands as process trees, kills them, and says how they ended.

    Each tree hangs on a pipe of this process: when this process ends, however it ends, the
    trees end with it.
    """

    def __init__(self, folder: Path) -> None:
        """Each machine's home, and its output, lies in a folder of its own below `folder`."""
        self.folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def start(
        self,
        machine_id: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        on_exit: Callable[[int], None],
    ) -> None:
        """Starts a command with exactly this environment beside that of an image.

        `on_exit` is called with its exit code (negative: the signal that ended it) from a thread
        of its own, also after a `kill`. A machine may be started again once it has ended.
        """
        home = self.home(machine_id)
        (home / "exit.json").unlink(missing_ok=True)
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "kwanzaa_compute.drivers.local_machine",
                f"--owner={reading}",
                str(home),
                str(NO_LIMIT_S),
                "--",
                *argv,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**self._image(home), **env},
            cwd=home,
            pass_fds=(reading,),
            start_new_session=True,
        )
        os.close(reading)
        self._running[machine_id] = process, writing
        waiter = threading.Thread(
            target=self._wait, args=(machine_id, process, writing, on_exit), daemon=True
        )
        waiter.start()

    def kill(self, machine_id: str) -> None:
        """Ends a machine as pulling its plug would; returns when nothing of it is left."""
        process, _ = self._running.get(machine_id, (None, 0))
        if process is not None and process.poll() is None:
            process.terminate()  # its reaper kills the whole tree with SIGKILL
            process.wait()

    def signal(self, machine_id: str, number: int) -> None:
        """Sends a signal to the machine's command: a warning before it is taken back, say."""
        for pid in self.commands(machine_id):
            os.kill(pid, number)

    def commands(self, machine_id: str) -> list[int]:
        """The process ids of the machine's command; empty where it is not running."""
        process, _ = self._running.get(machine_id, (None, 0))
        if process is None or process.poll() is not None:
            return []
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in children.split()]

    def home(self, machine_id: str) -> Path:
        """A machine's folder: its working directory and `$HOME`."""
        home = self.folder / machine_id
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return home

    def output(self, machine_id: str) -> list[str]:
        """What a machine has printed so far, line by line."""
        path = self.folder / machine_id / "output.log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def close(self) -> None:
        """Kills everything that still runs."""
        for machine_id in list(self._running):
            self.kill(machine_id)

    def _wait(
        self,
        machine_id: str,
        process: "subprocess.Popen[bytes]",
        writing: int,
        on_exit: Callable[[int], None],
    ) -> None:
        process.wait()
        os.close(writing)
        on_exit(_exit_code(self.folder / machine_id))

    @staticmethod
    def _image(home: Path) -> dict[str, str]:
        """What the image of a real machine sets: here its Python is the one that runs us."""
        kept = {name: os.environ[name] for name in IMAGE_VARIABLES if name in os.environ}
        path = f"{home}/bin:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        return {
            **kept,
            "PATH": path,
            "HOME": str(home),
            "PYTHONUNBUFFERED": "1",
            "KWANZAA_SIMULATED_MACHINE": "1",
        }


def show_gpus(home: Path, gpu: GPU, count: int) -> None:
    """Gives a machine an `nvidia-smi` that reports these GPUs, as the driver of an image does."""
    tool = home / "bin" / "nvidia-smi"
    tool.parent.mkdir(exist_ok=True)
    line = f"{gpu.aliases[0] if gpu.aliases else gpu.name}, {math.ceil(gpu.vram_gib * 1024)}"
    tool.write_text("#!/bin/sh\ncat <<'END'\n" + f"{line}\n" * count + "END\n")
    tool.chmod(0o700)


def _exit_code(home: Path) -> int:
    try:
        ended: dict[str, Any] = json.loads((home / "exit.json").read_text())
        return int(ended["exit_code"])
    except (OSError, ValueError, KeyError):
        return -9  # killed together with its reaper
