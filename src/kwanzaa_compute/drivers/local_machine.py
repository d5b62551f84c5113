"""The process that stands for a machine of `local`: it runs one command under a time limit.

    python -m kwanzaa_compute.drivers.local_machine [--owner=FD] FOLDER MAX_SECONDS -- COMMAND...

It outlives the process that started it, ends the command's whole process tree when the time is
up, when it is told to (SIGTERM) or when it is killed itself (Linux), and leaves `exit.json`. With
`--owner` it does not outlive that process: it ends when the other end of that pipe is closed.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

DEADLINE_EXIT_CODE = 124
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Runs the command and returns its exit code (negative: the signal that ended it)."""
    # Whoever ends us before we know our child would leave it alone in the world.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    owner = int(argv.pop(0).partition("=")[2]) if argv[0].startswith("--owner=") else None
    folder, max_s = Path(argv[0]), float(argv[1])
    command = argv[argv.index("--") + 1 :]
    _write(folder / "machine.json", {"pid": os.getpid(), "started": start_time(os.getpid())})
    if (folder / "terminating").exists():
        return 0  # it was called off before it began; whoever comes second sees the other's mark
    _prctl(_PR_SET_CHILD_SUBREAPER)  # grandchildren that outlive their parent come to us
    child = _start(command, folder)

    def end(_signal: int, _frame: FrameType | None) -> None:
        _kill_tree(child.pid)

    signal.signal(signal.SIGTERM, end)
    if owner is not None:
        threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = _wait(child, max_s)
    _kill_tree(child.pid)
    _write(folder / "exit.json", {"exit_code": code})
    return 0


def _end_with(owner: int) -> None:
    """Ends this process when the one that holds the other end of the pipe is no more."""
    os.read(owner, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks: a pid alone may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "output.log").open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            preexec_fn=_before_the_command(),  # noqa: PLW1509 -- this process has one thread
        )


def _wait(child: "subprocess.Popen[bytes]", max_s: float) -> int:
    try:
        return child.wait(timeout=max_s)
    except subprocess.TimeoutExpired:
        _kill_tree(child.pid)
        child.wait()
        return DEADLINE_EXIT_CODE


def _before_the_command() -> Callable[[], None]:
    """What the child does between fork and exec: nothing may be imported there."""
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None) if linux else None  # elsewhere the driver ends the process group

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return prepare


def _prctl(option: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, 1, 0, 0, 0)


def _kill_tree(leader: int) -> None:
    """Kills the command's session and everything that was started below this process."""
    for group in {leader, *_descendants(os.getpid())}:
        for kill in (os.killpg, os.kill):
            try:
                kill(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in children.read_text().split()]
        except OSError:
            continue  # the thread ended while we looked
        for child in direct:
            found += [child, *_descendants(child)]
    return found


def _write(path: Path, content: dict[str, float | int | str]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content))
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
