"""Runs on the machine, before and around everything else: it sees to the machine's end.

This file is sent to the machine as it stands (in an environment variable) and needs nothing but
Python's standard library. In this order:

1. A timer for an absolute time (seconds since the epoch) starts, so that a restarted machine has
   no more time than the first. A minute before it is due the command is told to end. When it is
   due the machine is terminated with the key that RunPod put into it, then stopped, again and
   again for ever.
2. The machine proves that its key can read its own pod. One that cannot would not end itself: it
   does no work.
3. Whoever the machine belongs to can log in from then on, where the image allows it (`login`).
4. The command runs, without that key.
5. When the command has ended, this does not: RunPod starts a command that has ended again. It
   leaves its watcher a minute to end the machine, and then ends the machine itself.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

AGENT = "kwanzaa-compute-guard/1"  # the API's front turns Python's own name away
CALL_S = 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
NOTICE_S = 60.0
LINGER_S = 60.0
PROOF_S = 90.0
OK = 200
HIDDEN = ("RUNPOD_API_KEY", "KWANZAA_GUARD", "KWANZAA_COMMAND")
LOGIN = "KWANZAA_LOGIN"
LOADER = (
    'import os,zlib,base64;exec(zlib.decompress(base64.b64decode(os.environ["KWANZAA_LOGIN"])))'
)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the key is for one host."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Turns a redirect into the error that it is here."""


class Machine:
    """This machine, through the key that RunPod gave it, which reaches no other."""

    def __init__(self, api: str, pod_id: str, key: str) -> None:
        """`api` is the address of RunPod's API."""
        self._url = f"{api.rstrip('/')}/v2/pods/{pod_id}"
        self._key = key
        self._opener = urllib.request.build_opener(NoRedirect)

    def read(self) -> int:
        """Reads its own pod; returns the status of the answer."""
        return self._call("GET", self._url)

    def terminate(self) -> int:
        """Asks for its own end."""
        return self._call("DELETE", self._url)

    def stop(self) -> int:
        """Asks to be stopped: no GPU bills then."""
        return self._call("POST", f"{self._url}/action", b'{"action": "stop"}')

    def _call(self, method: str, url: str, body: bytes | None = None) -> int:
        headers = {"Authorization": f"Bearer {self._key}", "User-Agent": AGENT}
        if body:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, body, headers, method=method)
        return within(CALL_S, lambda: self._status(request))

    def _status(self, request: urllib.request.Request) -> int:
        try:
            with self._opener.open(request, timeout=CALL_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


class Timer(threading.Thread):
    """Ends the machine at a time, and tries for ever."""

    def __init__(
        self,
        machine: Machine,
        end_at: float,
        *,
        notice_s: float = NOTICE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`end_at` is in seconds since the epoch; `notice` is called so many seconds before."""
        super().__init__(daemon=True)
        self.notice: Callable[[], None] = lambda: None
        self._machine, self._now, self._notice_s = machine, now, notice_s
        self._changed = threading.Condition()
        self._end_at = end_at

    @property
    def is_due(self) -> bool:
        """Whether the machine has no time left: it was restarted after its end."""
        return self._end_at <= self._now()

    def bring_forward(self, end_at: float) -> None:
        """Ends the machine at an earlier time than was said; a later one changes nothing."""
        with self._changed:
            self._end_at = min(self._end_at, end_at)
            self._changed.notify_all()

    def run(self) -> None:
        """Waits, gives notice, waits, ends the machine."""
        self._wait_until(self._notice_s)
        self.notice()
        self._wait_until(0.0)
        say("the time is up: this machine ends itself")
        pause = FIRST_PAUSE_S
        while True:
            for name, ask in (("terminate", self._machine.terminate), ("stop", self._machine.stop)):
                say(f"{name}: {answer_of(ask)}")
                time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _wait_until(self, before_s: float) -> None:
        """Waits by the wall clock, which goes on while a machine sleeps."""
        with self._changed:
            while (left := self._end_at - before_s - self._now()) > 0:
                self._changed.wait(min(left, 30.0))


def main(env: Mapping[str, str]) -> None:
    """The whole life of a machine. Never returns: an ended command would be started again."""
    key = env.get("RUNPOD_API_KEY", "")
    machine = Machine(env["KWANZAA_RUNPOD_API"], env.get("RUNPOD_POD_ID", ""), key)
    notice_s = float(env.get("KWANZAA_NOTICE_S", NOTICE_S))
    timer = Timer(machine, float(env["KWANZAA_END_AT"]), notice_s=notice_s)
    timer.start()
    if timer.is_due:
        say("this machine has no time left: no work here")
    elif can_end_itself(machine, float(env.get("KWANZAA_PROOF_S", PROOF_S))):
        seen = {name: value for name, value in env.items() if name not in HIDDEN}
        let_in(seen)
        rest = {name: value for name, value in seen.items() if not name.startswith(LOGIN)}
        code = run(json.loads(env["KWANZAA_COMMAND"]), rest, timer)
        say(f"the command ended with exit code {code}")
        timer.bring_forward(time.time() + float(env.get("KWANZAA_LINGER_S", LINGER_S)))
    else:
        say("this machine's key cannot read its own pod, so it could not end itself: no work here")
        timer.bring_forward(time.time())
    while True:
        time.sleep(3600)


def can_end_itself(machine: Machine, patience_s: float) -> bool:
    """Whether the key reads this very pod; asks again for a while, a new key may need a moment."""
    last = time.monotonic() + patience_s
    pause = FIRST_PAUSE_S
    while True:
        said = answer_of(machine.read)
        if said == OK:
            return True
        say(f"reading this machine's own pod: {said}")
        if time.monotonic() + pause > last:
            return False
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def let_in(env: Mapping[str, str]) -> None:
    """Starts what lets the owner log in, without any variable of the job's own."""
    if LOGIN not in env:
        return
    names = [name for name in env if name.startswith(LOGIN)]
    names += ["PATH", "HOME", "LANG", "KWANZAA_SIMULATED_MACHINE"]
    mine = {name: env[name] for name in names if name in env}
    try:
        subprocess.Popen([sys.executable, "-c", LOADER], env=mine, stdin=subprocess.DEVNULL)
    except OSError as error:
        say(f"nobody can log in: {error}")


def run(argv: Sequence[str], env: Mapping[str, str], timer: Timer) -> int:
    """Runs the command, hands a request to end on to it, and returns its exit code."""
    try:
        child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL)
    except OSError as error:
        say(f"the command cannot be started: {error}")
        return 127
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: child.send_signal(got))
    timer.notice = child.terminate
    return child.wait()


def answer_of(call: Callable[[], int]) -> int | str:
    """The status of the answer, or in words why there is none. Never raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 -- whatever it is, the next try must come
        return type(error).__name__


def within(seconds: float, call: Callable[[], int]) -> int:
    """The result of a call, or a TimeoutError: no server can hold the timer up."""
    results: list[int] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 -- carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


def say(words: str) -> None:
    """A line in the machine's log."""
    print(f"kwanzaa guard: {words}", flush=True)


if __name__ == "__main__":
    try:
        main(dict(os.environ))
    except (KeyError, ValueError) as problem:
        say(f"this machine was started without {problem}")
        sys.exit(1)
