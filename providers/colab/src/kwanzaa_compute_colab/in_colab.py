"""What the notebook does on its machine. Standard library only: it is copied into a cell as it is.

Whatever an earlier execution has left is used: files are written where they are missing, a
trainer that outlived its kernel is asked to save a checkpoint and waited for, and the trainer
goes on from the newest checkpoint that it can verify.
"""

import base64
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

CODE = "code.zip"
FILES = "files/"
LEAVING_S = 180
"""Longest time that a trainer of an earlier kernel has for its last checkpoint."""
LOOK_S = 0.5
MEANINGS = {
    75: "it was stopped, after a checkpoint",
    78: "this machine could not be set up: try again, or disconnect and delete the runtime",
    124: "its time limit was reached; raise compute.max_hours and write the notebook again",
}


def prepare(job: dict[str, Any], payload: str, work: str, drive: str, needs_gpu: bool) -> str:  # noqa: FBT001, PLR0917, RUF100 -- as it is typed in a cell
    """Sets everything out; returns the URL of the run's folder."""
    if needs_gpu and shutil.which("nvidia-smi") is None:
        raise RuntimeError(
            f"there is no GPU here: choose Runtime > Change runtime type > {job['gpu']}, run again"
        )
    Path(work).mkdir(parents=True, exist_ok=True)
    url = str(job["store_url"])
    folder = None
    if not url:
        from google.colab import drive as google_drive

        google_drive.mount(drive)
        folder = Path(drive, "MyDrive", "kwanzaa", job["run"])
        url = folder.as_uri()
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(payload))) as archive:
        for name in archive.namelist():
            if name == CODE:
                write(Path(work, CODE), archive.read(name))
            elif folder is not None and name.startswith(FILES):
                write(folder / name.removeprefix(FILES), archive.read(name))
    return url


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; one that is there already is left alone."""
    if path.is_file() and path.stat().st_size == len(content):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


def rights(job: dict[str, Any]) -> dict[str, str]:
    """The secrets of this notebook's owner that the run needs, from the panel with the key."""
    from google.colab import userdata

    found = {}
    for name in (*job["needed"], *job["optional"]):
        try:
            found[name] = str(userdata.get(name))
        except Exception as error:
            if name in job["needed"]:
                raise RuntimeError(
                    f"add {name} in the Secrets panel (the key at the left), let this notebook"
                    " read it, and run again"
                ) from error
    return found


def train(job: dict[str, Any], url: str, work: str) -> None:
    """Trains, showing what the trainer says; raises RuntimeError where it does not finish."""
    end_earlier(Path(work, "pid"))
    code = Path(work, CODE)
    env = {
        **os.environ,
        **job["env"],
        **rights(job),
        "KWANZAA_CODE_URL": code.as_uri(),
        "KWANZAA_CODE_SHA256": hashlib.sha256(code.read_bytes()).hexdigest(),
    }
    words = [sys.executable, *job["argv"][1:], url]
    said = Path(work, "output.log")
    with said.open("wb") as out:
        # In a file and not a pipe: the trainer outlives a kernel that is restarted.
        process = subprocess.Popen(
            words, env=env, cwd=work, stdout=out, stderr=out, start_new_session=True
        )
    Path(work, "pid").write_text(str(process.pid))
    code_of = follow(process, said)
    if code_of:
        why = MEANINGS.get(code_of, f"it failed with code {code_of}")
        raise RuntimeError(f"{why}; executing this again goes on from the newest checkpoint")


def follow(process: "subprocess.Popen[bytes]", said: Path) -> int:
    """Shows a process's output until it ends; returns its exit code. Interrupting stops it."""
    with said.open(errors="replace") as lines:
        while True:
            ended = process.poll()
            sys.stdout.write(lines.read())
            sys.stdout.flush()
            if ended is not None:
                return ended
            try:
                time.sleep(LOOK_S)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)  # a checkpoint at the next whole step


def end_earlier(record: Path) -> None:
    """Stops a trainer that an earlier kernel left behind, after its checkpoint."""
    if not record.is_file():
        return
    pid = int(record.read_text() or 0)
    last = time.monotonic() + LEAVING_S
    while is_ours(pid):
        if time.monotonic() > last:
            raise RuntimeError("an earlier trainer does not end: disconnect and delete the runtime")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(LOOK_S)
    record.unlink()


def is_ours(pid: int) -> bool:
    """Whether a process of that number runs our command."""
    try:
        return b"KWANZAA_BOOT" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def finish(job: dict[str, Any], url: str) -> None:
    """Makes sure that Drive has everything, and says where the adapter is."""
    if not job["store_url"]:
        from google.colab import drive as google_drive

        google_drive.flush_and_unmount()
    print(f"the adapter is in {url}/adapter")
