"""One account of the Hub, spoken to through huggingface_hub, every call under a deadline."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute_huggingface.deadline import within
from kwanzaa_compute_huggingface.meaning import NoTokenError, meaning_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

HUB = "https://huggingface.co"
CALL_S = 25.0
"""Longest time for one call; below the minute that `Provider` allows a driver's method."""
LOGS_S = 15.0
"""Longest time for a machine's output so far: the server holds such a stream open."""
OURS = re.compile(r"kwz-[A-Za-z0-9._-]+")
"""The names that we stamp on machines."""


class Hub:
    """Calls as one user. Made without asking anybody; the user's name is looked up once."""

    def __init__(self, context: DriverContext, *, call_s: float = CALL_S) -> None:
        """Token and names come from `HF_TOKEN`, `HF_NAMESPACE`, `HF_ENDPOINT`."""
        self._call_s = call_s
        environment = context.environment
        self.endpoint = (context.endpoint or environment.get("HF_ENDPOINT") or HUB).rstrip("/")
        self._token = environment.get("HF_TOKEN", "")
        self._namespace = environment.get("HF_NAMESPACE", "")
        self._monotonic = context.clock.monotonic

    def call(self, call: Callable[["HfApi"], T], *, seconds: float | None = None) -> T:
        """What the call returns; raises its own error, or `TimeoutError`."""
        if not self._token:
            raise NoTokenError
        limit_s = self._call_s if seconds is None else seconds
        return within(limit_s, lambda: call(self._api()), monotonic=self._monotonic)

    def lines(self, stream: Callable[["HfApi"], Iterable[str]]) -> list[str]:
        """The lines that a stream has given until it ends, or until `LOGS_S` have passed."""
        chunks: list[str] = []

        def read(api: "HfApi") -> None:
            # Each event is a line of output, with its line end or without.
            chunks.extend(stream(api))

        try:
            self.call(read, seconds=LOGS_S)
        except TimeoutError:
            if not chunks:
                raise
        return [line for chunk in list(chunks) for line in chunk.splitlines()]

    @property
    def namespace(self) -> str:
        """The user or organisation that everything is made under and billed to.

        Passed to every call: without it, listing jobs asks with the wrong token at the wrong
        address (huggingface_hub 2.4).
        """
        if not self._namespace:
            self._namespace = str(self.call(lambda api: api.whoami())["name"])
        return self._namespace

    def classify(self, error: Exception) -> ProviderError:
        """What an error means; its text never holds the token."""
        return meaning_of(error, hidden=(self._token,))

    def _api(self) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self._token, library_name="kwanzaa-compute")
