"""A total deadline for calls of huggingface_hub, whose client waits for ever by itself.

The client is one for the whole process, so it is left as it is for everybody else: only what runs
`within` a deadline is limited. Each request gets no more time than is left, and a call that is
held up all the same (an answer in drops, a loop of retries) is left behind in its thread, where
its next request fails.
"""

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
Monotonic = Callable[[], float]

_ends: ContextVar[tuple[float, Monotonic] | None] = ContextVar("deadline", default=None)


def within(
    seconds: float,
    call: Callable[[], T],
    *,
    monotonic: Monotonic = time.monotonic,  # noqa: TID251 -- a default that callers replace
) -> T:
    """The result of a call, or `TimeoutError` after so many seconds, whatever holds it up."""
    install()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        _ends.set((monotonic() + seconds, monotonic))
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 -- carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="hugging face call", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    raise TimeoutError(f"the Hub did not answer within {seconds:.0f} s")


@cache
def install() -> None:
    """Lets the process's client know of deadlines, once; whoever made it before still makes it."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    made_before = _http._GLOBAL_CLIENT_FACTORY  # noqa: SLF001 -- there is no public way to it

    def make() -> "httpx2.Client":
        client = made_before()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks.get("request", []), _limit]}
        return client

    set_client_factory(make)


def _limit(request: "httpx2.Request") -> None:
    """Gives a request the time that is left of its deadline; refuses it where none is."""
    import httpx2

    deadline = _ends.get()
    if deadline is None:
        return
    ends, monotonic = deadline
    left = ends - monotonic()
    if left <= 0:
        raise httpx2.PoolTimeout("the deadline of this call has passed", request=request)
    given = request.extensions.get("timeout") or {}
    phases = ("connect", "read", "write", "pool")
    limits = {phase: min(left, given.get(phase) or left) for phase in phases}
    request.extensions = {**request.extensions, "timeout": limits}
