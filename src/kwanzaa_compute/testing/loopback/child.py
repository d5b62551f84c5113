"""Somebody else's server as a child process, which ends when its standard input is closed."""

import subprocess
from typing import IO

ENDS_WITHIN_S = 5.0


def piped(pipe: IO[bytes] | None) -> IO[bytes]:
    """A child's pipe. Raises `RuntimeError` where none was asked for as it was started."""
    if pipe is None:
        raise RuntimeError("a pipe that was asked for is missing")
    return pipe


def end_child(child: "subprocess.Popen[bytes]") -> None:
    """Closes its pipes, which asks it to end, and kills it where it has not within 5 seconds."""
    for pipe in (child.stdin, child.stdout):
        piped(pipe).close()
    try:
        child.wait(timeout=ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
