"""What a rented machine runs first. Standard library only: nothing of ours is there yet.

It is sent as text (see `jobs`), so it imports nothing of this package. It arms the time limit,
fetches the code that the control side put into the store, checks its sha256, installs what the
image lacks (hash-locked; what the image has at the locked version is kept), and runs the trainer
in a process group of its own, passing on the signals that it gets itself.

    KWANZAA_CODE_URL      where the code lies, signed: a secret
    KWANZAA_CODE_SHA256   what it must hash to
    KWANZAA_MAX_S         seconds from now until the trainer is ended (exit code 124)
    KWANZAA_GRACE_S       seconds that it then has for a last checkpoint (20)
    KWANZAA_EXTRAS        what the run would like to have besides; without it, it goes on

The words behind the script are the trainer's. Exit code 78: this machine could not be set up.
"""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

EXIT_DEADLINE = 124
EXIT_SETUP = 78
GRACE_S = float(os.environ.get("KWANZAA_GRACE_S", "20"))
FETCH_TRIES = 6
FETCH_TIMEOUT_S = 60
PIP_TIMEOUT_S = 900
LOCK = "kwanzaa_trainer/requirements.lock"
HIDDEN = ("KWANZAA_CODE_URL", "KWANZAA_BOOT")


def main(words: Sequence[str]) -> int:
    """Sets this machine up and runs the trainer; returns its exit code."""
    ends = time.monotonic() + float(os.environ["KWANZAA_MAX_S"])
    folder = Path.cwd() / ".kwanzaa"
    try:
        unpack(fetch(os.environ["KWANZAA_CODE_URL"], os.environ["KWANZAA_CODE_SHA256"]), folder)
        packages = install_missing(folder)
    except Exception as error:  # noqa: BLE001 -- whatever it was: this machine is of no use
        # Not the error's own words: they may hold the signed URL.
        sys.stderr.write(f"kwanzaa: this machine cannot be set up: {type(error).__name__}\n")
        return EXIT_SETUP
    env = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    env["PYTHONPATH"] = os.pathsep.join(map(str, [folder, *packages]))
    command = [sys.executable, "-m", "kwanzaa_trainer", *words]
    return run(command, env, ends - time.monotonic())


def fetch(url: str, sha256: str) -> bytes:
    """The bytes at a URL that hash to what was promised; asked for several times."""
    for tried in range(FETCH_TRIES):
        if tried:
            time.sleep(2**tried / 4)
        with (
            suppress(OSError),
            urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer,  # noqa: S310
        ):
            content = bytes(answer.read())
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    raise LookupError("the code cannot be had, or is not what was sent")


def unpack(content: bytes, folder: Path) -> None:
    """Unpacks our own archive; its hash has been checked, so its names can be trusted."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)


def install_missing(folder: Path) -> list[Path]:
    """Installs the locked packages that the image has not, or not at that version, beside it.

    Returns the folders that go onto the path. A simulated machine's image has all it needs.
    """
    if os.environ.get("KWANZAA_SIMULATED_MACHINE"):
        return []
    targets = install(folder / LOCK, folder / "packages")
    for extra in os.environ.get("KWANZAA_EXTRAS", "").split():
        # Nothing that a run can do without keeps it from running.
        with suppress(OSError, subprocess.SubprocessError):
            lock = folder / LOCK.replace("requirements", f"requirements-{extra}")
            targets += install(lock, folder / f"packages-{extra}")
    return targets


def install(lock: Path, target: Path) -> list[Path]:
    """Installs into `target` what of a lock is missing; returns it, unless nothing was."""
    lines = lock.read_text().splitlines()
    missing = [line for line in lines if re.match(r"[A-Za-z0-9]", line) and not is_there(line)]
    if not missing:
        return []
    wanted = target.with_suffix(".txt")
    wanted.write_text("\n".join(missing))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    into = ["--only-binary=:all:", "--target", str(target), "-r", str(wanted)]
    subprocess.run([*pip, *into], check=True, timeout=PIP_TIMEOUT_S)
    return [target]


def is_there(line: str) -> bool:
    """Whether the image has the package of a line `name==version --hash=...`."""
    name, _, locked = line.split(maxsplit=1)[0].partition("==")
    try:
        return version(name) == locked
    except PackageNotFoundError:
        return False


def run(command: Sequence[str], env: Mapping[str, str], seconds: float) -> int:
    """Runs a command under a time limit; its exit code, or 124 where the time was up."""
    child = subprocess.Popen(command, env=env, start_new_session=True)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        tell(child.pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    up = threading.Event()

    def end() -> None:
        up.set()
        tell(child.pid, signal.SIGTERM)  # a checkpoint, if it can still be saved
        later(GRACE_S, lambda: tell(child.pid, signal.SIGKILL))

    later(seconds, end)
    code = child.wait()
    tell(child.pid, signal.SIGKILL)  # whatever it left behind
    if up.is_set():
        return EXIT_DEADLINE
    return code if code >= 0 else 128 - code


def later(seconds: float, what: Callable[[], None]) -> None:
    """Does something in so many seconds, unless this process has ended by then."""
    timer = threading.Timer(max(0.0, seconds), what)
    timer.daemon = True
    timer.start()


def tell(group: int, number: int) -> None:
    """Sends a signal to the trainer and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
