"""Which samples share a row, and in which order the rows come: pure functions of sizes and seed."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

Row = tuple[int, ...]
"""Indices of the samples that lie one after the other in one row."""


def pack(lengths: Sequence[int], capacity: int) -> list[Row]:
    """First-fit decreasing: rows of at most `capacity` tokens, the same for the same lengths.

    Every length must be at most `capacity`. Within a row samples stand in their file's order, and
    rows in the order of their first sample.
    """
    tree = _FreeSpace(len(lengths), capacity)
    rows: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rows.setdefault(tree.take_first(lengths[index]), []).append(index)
    return sorted(tuple(sorted(row)) for row in rows.values())


def one_by_one(count: int) -> list[Row]:
    """A row for each sample."""
    return [(index,) for index in range(count)]


@lru_cache(maxsize=2)
def row_order(count: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """The order of an epoch's rows: a pure function of (seed, epoch), on every machine and version.

    It is an order by hash and not a generator's shuffle, because no generator promises the same
    numbers in its next release, and a run may resume there.
    """

    def key(row: int) -> bytes:
        return hashlib.sha256(f"{seed}/{epoch}/{row}".encode()).digest()

    return tuple(sorted(range(count), key=key))


class _FreeSpace:
    """The free room of every row in a binary tree of maxima: first fit in O(log rows)."""

    def __init__(self, rows: int, capacity: int) -> None:
        self._leaves = 1
        while self._leaves < max(rows, 1):
            self._leaves *= 2
        self._room = [capacity] * (2 * self._leaves)

    def take_first(self, length: int) -> int:
        """Takes `length` from the first row that has it; returns that row."""
        node = 1
        while node < self._leaves:
            node = 2 * node if self._room[2 * node] >= length else 2 * node + 1
        row = node - self._leaves
        self._room[node] -= length
        while node > 1:
            node //= 2
            self._room[node] = max(self._room[2 * node], self._room[2 * node + 1])
        return row
