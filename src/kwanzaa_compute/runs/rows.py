"""Records as rows of the ledger, and back: money in millionths of a dollar, exact."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import fields
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Fault,
    Move,
    RunRecord,
    RunState,
    Wish,
)

_MICRO = Decimal(1_000_000)
_MONEY = frozenset({"max_usd", "estimate_usd", "usd_per_hour"})

R = TypeVar("R", RunRecord, AttemptRecord)
Converter = Callable[[Any], Any]


def micro(name: str, usd: Decimal) -> int:
    """Millionths of a dollar, rounded against us: a cap down, whatever is to be paid up."""
    rounding = ROUND_FLOOR if name == "max_usd" else ROUND_CEILING
    return int((usd * _MICRO).to_integral_value(rounding))


def dollars(millionths: int) -> Decimal:
    """The other way round."""
    return Decimal(millionths) / _MICRO


def text(value: str) -> str:
    """A string that SQLite can keep: providers and machines may send halves of surrogate pairs."""
    return value if value.isascii() else value.encode(errors="replace").decode()


def _members(kind: type[StrEnum]) -> Converter:
    return {member.value: member for member in kind}.__getitem__


class Table(Generic[R]):
    """One table whose rows are records of one kind; columns bear the names of the fields."""

    def __init__(self, name: str, kind: type[R], converters: Mapping[str, Converter]) -> None:
        self._kind: Callable[..., R] = kind
        self._names = tuple(f.name for f in fields(kind))
        by_name: dict[str, Converter] = {**dict.fromkeys(_MONEY, dollars), **converters}
        self._converters = [(i, by_name[n]) for i, n in enumerate(self._names) if n in by_name]
        marks = ", ".join("?" * len(self._names))
        columns = ", ".join(self._names)
        self.select = f"SELECT {columns} FROM {name}"  # noqa: S608 -- our own field names
        self.insert = f"INSERT INTO {name} ({columns}) VALUES ({marks})"  # noqa: S608

    def read(self, row: sqlite3.Row) -> R:
        """The record of a row of `select`."""
        values = list(row)
        for index, convert in self._converters:
            if values[index] is not None:
                values[index] = convert(values[index])
        return self._kind(*values)

    def written(self, record: R, names: tuple[str, ...] | None = None) -> tuple[Any, ...]:
        """The record's values for these columns (default: all of them, for `insert`)."""
        return tuple(_value(name, getattr(record, name)) for name in names or self._names)


def _value(name: str, value: Any) -> Any:
    if name in _MONEY:
        return None if value is None else micro(name, value)
    return text(value) if type(value) is str else value


RUNS = Table("runs", RunRecord, {"state": _members(RunState), "wish": _members(Wish)})
ATTEMPTS = Table(
    "attempts",
    AttemptRecord,
    {
        "state": _members(AttemptState),
        "ending": _members(Move),
        "fault": _members(Fault),
        "spot": bool,
        "leaving": bool,
    },
)
