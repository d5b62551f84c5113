"""Named places where a test may kill this process: one at each boundary of our I/O.

    KWANZAA_FAILPOINT=launch.asked          killed the first time it gets there
    KWANZAA_FAILPOINT=ledger.commit:7       ... or the seventh

Off, which is always outside of tests, a failpoint costs a call and a comparison.
"""

import os
import signal

_name, _, _nth = os.environ.get("KWANZAA_FAILPOINT", "").partition(":")
_left = int(_nth) if _nth.isdigit() else 1


def failpoint(name: str) -> None:
    """Kills this process with SIGKILL where it is told to: no handler runs, nothing is flushed."""
    if _name and name == _name:
        _count_down()


def _count_down() -> None:
    global _left  # noqa: PLW0603 -- one countdown a process
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
