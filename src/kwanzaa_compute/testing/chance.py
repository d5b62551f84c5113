"""Chance that repeats itself: what goes wrong, and when, follows from a seed alone."""

from collections import defaultdict
from collections.abc import Collection
from random import Random

Strike = tuple[str, int]
"""The n-th time that something of this kind could have gone wrong, and did."""


class Chance:
    """Draws faults and durations, each kind from a stream of its own.

    Streams of their own keep a schedule together while it is shrunk: to leave one fault out
    changes no other draw. `only` replays exactly those strikes and no others.
    """

    def __init__(self, seed: int | str, only: Collection[Strike] | None = None) -> None:
        """The same seed gives the same draws, on every machine."""
        self.seed = seed
        self.struck: list[Strike] = []
        self.calm = False
        """True: nothing goes wrong any more."""
        self._only = None if only is None else frozenset(only)
        self._streams: dict[str, Random] = {}
        self._counts: defaultdict[str, int] = defaultdict(int)

    def strikes(self, kind: str, probability: float) -> bool:
        """Whether this fault happens this time."""
        if self.calm or not probability:
            return False
        self._counts[kind] += 1
        strike = (kind, self._counts[kind])
        if self._only is None:
            hit = self.stream(kind).random() < probability
        else:
            hit = strike in self._only
        if hit:
            self.struck.append(strike)
        return hit

    def between(self, kind: str, low: float, high: float) -> float:
        """A number from a range."""
        return low if low == high else self.stream(f"{kind} how much").uniform(low, high)

    def stream(self, kind: str) -> Random:
        """The stream of one kind of draws."""
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = Random(f"{self.seed}/{kind}")  # noqa: S311 -- replayable
        return stream
