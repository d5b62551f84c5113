"""One deadline for a whole call into somebody else's code, which may have none of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], *, who: str = "the provider") -> T:
    """What a call brings. It runs in a thread that is abandoned where it takes longer.

    An SDK's own limits are for each read: a server that sends a byte now and then would hold us
    for ever. Raises what the call raises, and `TimeoutError`, which names `who` did not answer.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 -- carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name=f"asking {who}")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"{who} did not answer within {seconds:.0f} s")
    return results[0]
