"""The whole of what runs in a Space: a small page on its health port, and the job beside it.

Sent as text and started by the Space's Dockerfile, so it imports nothing but the standard
library. A Space is killed where nobody answers its port, runs again whenever it is restarted, and
bills until it is paused or its process ends. So this

- answers with how far the job is: step, loss, time left;
- runs the job until a time that was fixed at launch, however often the Space is restarted;
- pauses the Space afterwards, where it was given a right to (`KWANZAA_PAUSE_TOKEN`), and in any
  case ends: the Hub suspends a Space whose process has ended, and its billing with it.

A restart of a run that is done costs nothing worth mentioning: the trainer finds the done marker.

    KWANZAA_ARGV         the job's words, as JSON
    KWANZAA_NOT_AFTER    seconds since the epoch at which everything ends (exit code 124)
    KWANZAA_HUB          the Hub that this Space is on, where that is not the public one
"""

# ruff: noqa: TID251 -- a program of its own, on another machine: it reads that machine's clock

import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

EXIT_DEADLINE = 124
GRACE_S = 20.0
PLUG_S = 120.0
"""How long a pause may take to pull our plug before we end by ourselves."""
HIDDEN = (
    "KWANZAA_ARGV",
    "KWANZAA_NOT_AFTER",
    "KWANZAA_PAUSE_TOKEN",
    "KWANZAA_HUB",
    "HOST",
    "PORT",
)
STEP = re.compile(r"step (\d+)/(\d+): loss (\d+\.\d+)")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{state}</title>
<body style="font:16px system-ui;max-width:40em;margin:3em auto">
<h1>{state}</h1><p>step {step} of {total}, loss {loss}</p><p>ends in {left} at the latest</p>
"""


@dataclass(slots=True)
class Progress:
    """How far the job is, as its output says."""

    not_after: float
    state: str = "starting"
    step: int = 0
    total: int = 0
    loss: str = "unknown"

    def read(self, line: str) -> None:
        """Takes from a line of output what the page shows."""
        found = STEP.search(line)
        if found is not None:
            self.state = "training"
            self.step, self.total, self.loss = int(found[1]), int(found[2]), found[3]

    def page(self, now: float) -> bytes:
        """The page as it is at a time."""
        minutes = max(0, int(self.not_after - now)) // 60
        left = f"{minutes // 60} h {minutes % 60} min"
        said = {"state": self.state, "step": self.step, "total": self.total, "loss": self.loss}
        shown = {name: html.escape(str(value)) for name, value in said.items()}
        return PAGE.format(left=left, **shown).encode()


def main() -> int:
    """Runs the job beside its page, then pauses the Space; returns the job's exit code."""
    progress = Progress(float(os.environ["KWANZAA_NOT_AFTER"]))
    server = serve(progress)
    code = run(json.loads(os.environ["KWANZAA_ARGV"]), progress)
    progress.state = f"ended with exit code {code}"
    if pause():
        time.sleep(PLUG_S)
    server.shutdown()
    return code


def serve(progress: Progress) -> ThreadingHTTPServer:
    """Answers the Space's port from now on."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = progress.page(time.time())
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
            """Says nothing: the log is the job's."""

    # The Space's own network is what it is published through: all of its addresses.
    where = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "7860"))  # noqa: S104
    server = ThreadingHTTPServer(where, Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def run(argv: list[str], progress: Progress) -> int:
    """Runs the job, passing on what it prints; its exit code, or 124 where the time was up."""
    seconds = progress.not_after - time.time()
    if seconds <= 0:
        sys.stderr.write("the time of this machine is up; nothing is run\n")
        return EXIT_DEADLINE
    home = tempfile.mkdtemp()  # a Space's user may have none that it can write to
    env = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    child = subprocess.Popen(
        argv,
        cwd=home,
        env={**env, "HOME": home},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        tell(child.pid, number)

    signal.signal(signal.SIGTERM, pass_on)
    up = threading.Event()

    def end() -> None:
        up.set()
        tell(child.pid, signal.SIGTERM)  # a checkpoint, if it can still be saved
        later(GRACE_S, lambda: tell(child.pid, signal.SIGKILL))

    later(seconds, end)
    for line in child.stdout or ():
        progress.read(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    code = child.wait()
    if up.is_set():
        return EXIT_DEADLINE
    return code if code >= 0 else 128 - code


def pause() -> bool:
    """Asks the Hub to pause this Space; False where that is not allowed, or did not work."""
    token, space = os.environ.get("KWANZAA_PAUSE_TOKEN"), os.environ.get("SPACE_ID")
    if not token or not space:
        return False
    hub = os.environ.get("KWANZAA_HUB", "https://huggingface.co")
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(  # noqa: S310 -- the Hub's own address
        f"{hub}/api/spaces/{space}/pause", data=b"", headers=headers, method="POST"
    )
    with suppress(OSError), urllib.request.urlopen(request, timeout=30):  # noqa: S310
        return True
    # Not the error's own words: nothing of the token may come into the log.
    sys.stderr.write("the Space could not be paused; it ends instead\n")
    return False


def later(seconds: float, what: Callable[[], None]) -> None:
    """Does something in so many seconds, unless this process has ended by then."""
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()


def tell(group: int, number: int) -> None:
    """Sends a signal to the job and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
