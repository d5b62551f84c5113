"""As much GraphQL as RunPod's SDK speaks: one operation, fields, arguments written out.

A strict reader, so that an unescaped quote in a query is the syntax error that it is.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""[\s,]*(?P<token>
        "(?:[^"\\\n]|\\.)*" | -?\d+(?:\.\d+)? | [A-Za-z_]\w* | [{}()\[\]:]
    )""",
    re.VERBOSE,
)


class QueryError(Exception):
    """The query cannot be read, or asks for what is not there."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is asked for, with its arguments and what is asked for inside it."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inside: tuple["Field", ...] = ()


def read(query: str) -> tuple[Field, ...]:
    """The fields at the top of a query. Raises `QueryError`."""
    reader = _Reader(_tokens(query))
    if reader.next_is("query") or reader.next_is("mutation"):
        reader.take()
        if not reader.next_is("{"):
            reader.take()
    fields = reader.fields()
    if reader.left:
        raise QueryError(f"Syntax Error: Unexpected {reader.left[0]}.")
    return fields


def pick(value: Any, fields: tuple[Field, ...]) -> Any:
    """Of a value, what is asked for. Raises `QueryError` for what it has not."""
    if value is None or not fields:
        return value
    if isinstance(value, list):
        return [pick(one, fields) for one in value]
    picked = {}
    for asked in fields:
        if asked.name not in value:
            raise QueryError(f'Cannot query field "{asked.name}".')
        found = value[asked.name]
        picked[asked.name] = pick(
            found(asked.arguments) if callable(found) else found, asked.inside
        )
    return picked


Resolver = Callable[[Mapping[str, Any]], Any]


def _tokens(query: str) -> list[str]:
    found, at = [], 0
    text = query.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise QueryError(f"Syntax Error: Unexpected character at {at}.")
        found.append(token["token"])
        at = token.end()
    return found


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens

    def next_is(self, token: str) -> bool:
        return bool(self.left) and self.left[0] == token

    def take(self, expected: str = "") -> str:
        if not self.left or (expected and self.left[0] != expected):
            raise QueryError(f"Syntax Error: Expected {expected or 'more'}.")
        return self.left.pop(0)

    def fields(self) -> tuple[Field, ...]:
        self.take("{")
        found = []
        while not self.next_is("}"):
            name = self.take()
            arguments = self.named("(", ")") if self.next_is("(") else {}
            found.append(Field(name, arguments, self.fields() if self.next_is("{") else ()))
        self.take("}")
        return tuple(found)

    def named(self, start: str, end: str) -> dict[str, Any]:
        self.take(start)
        found = {}
        while not self.next_is(end):
            name = self.take()
            self.take(":")
            found[name] = self.value()
        self.take(end)
        return found

    def value(self) -> Any:
        if self.next_is("{"):
            return self.named("{", "}")
        if self.next_is("["):
            self.take("[")
            found = []
            while not self.next_is("]"):
                found.append(self.value())
            self.take("]")
            return found
        word = self.take()
        if word in {"true", "false", "null"} or word[0] in '"-0123456789':
            return json.loads(word)
        if word in "{}()[]:":
            raise QueryError(f"Syntax Error: Unexpected {word}.")
        return word  # a name of an enumeration
