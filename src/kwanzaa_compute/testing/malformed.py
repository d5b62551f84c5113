"""Replies as broken proxies, half-deployed servers and bugs make them: seeded, from a valid one.

    for broken in malformed(valid, seed=7, count=300):
        server.interrupt("GET", "/v2/pods", Reply(broken.status, broken.body, broken.headers))
        ...

Most of them are no longer what the provider's description promises; a few happen to be still, so
a test asks for sense (no traceback, nothing forgotten, nothing invented), not for an error.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

STRANGE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    "",
    "0",
    "NaN",
    "ü\u202e\u0000\r\n",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "$(touch /tmp/x); `id`",
    "x" * 70_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
)
BODIES: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'"pods"',
    b"<html><head><title>502 Bad Gateway</title></head></html>",
    b"\xff\xfe\x00\x00",
    b"\x1f\x8b\x08\x00garbage",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"NaN",
    b"-Infinity",
    b"9" * 5_000,
    b'{"id": "a", "id": "b"}',
)


@dataclass(frozen=True, slots=True)
class Malformed:
    """One broken reply: what was done to it, and what goes over the wire."""

    what: str
    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def malformed(
    valid: Any, *, seed: int, count: int, statuses: tuple[int, ...] = (200,)
) -> Iterator[Malformed]:
    """`count` broken versions of a valid JSON reply, the same for the same seed."""
    chance = Random(seed)  # noqa: S311 -- a test's dice
    kinds: tuple[Callable[[Any, Random], Malformed], ...] = (
        _strange_value,
        _strange_value,
        _missing_key,
        _wrapped,
        _truncated,
        _flipped,
        _other_body,
        _lying_header,
        _other_encoding,
    )
    for _ in range(count):
        broken = chance.choice(kinds)(valid, chance)
        yield Malformed(broken.what, broken.body, chance.choice(statuses), broken.headers)


def _strange_value(valid: Any, chance: Random) -> Malformed:
    copy, places = _places(valid)
    if not places:
        return _other_body(valid, chance)
    holder, key = chance.choice(places)
    holder[key] = value = chance.choice(STRANGE_VALUES)
    return Malformed(f"{key} is {str(value)[:30]!r}", _dumped(copy))


def _missing_key(valid: Any, chance: Random) -> Malformed:
    copy, places = _places(valid)
    inside = [(holder, key) for holder, key in places if isinstance(holder, dict)]
    if not inside:
        return _other_body(valid, chance)
    holder, key = chance.choice(inside)
    del holder[key]
    return Malformed(f"without {key}", _dumped(copy))


def _wrapped(valid: Any, chance: Random) -> Malformed:
    wrap = chance.choice(([valid], {"data": valid}, {"error": "internal"}, [valid, valid], "ok"))
    return Malformed("in another wrapping", _dumped(wrap))


def _truncated(valid: Any, chance: Random) -> Malformed:
    body = _dumped(valid)
    end = chance.randrange(len(body))
    return Malformed(f"cut at byte {end}", body[:end])


def _flipped(valid: Any, chance: Random) -> Malformed:
    body = bytearray(_dumped(valid))
    place = chance.randrange(len(body))
    body[place] ^= 1 << chance.randrange(8)
    return Malformed(f"a bit of byte {place} flipped", bytes(body))


def _other_body(_valid: Any, chance: Random) -> Malformed:
    body = chance.choice(BODIES)
    return Malformed(f"the body {body[:20]!r}", body)


def _lying_header(valid: Any, chance: Random) -> Malformed:
    name, value = chance.choice(
        (
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "deflate"),
            ("Content-Type", "text/html; charset=nonsense"),
            ("Location", "http://127.0.0.1:9/elsewhere"),
            ("Retry-After", "soon"),
        )
    )
    return Malformed(f"{name}: {value}", _dumped(valid), headers={name: value})


def _other_encoding(valid: Any, chance: Random) -> Malformed:
    encoding = chance.choice(("utf-16", "utf-8-sig", "utf-32"))
    return Malformed(f"in {encoding}", json.dumps(valid).encode(encoding))


def _places(valid: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """A copy, and every (holder, key) in it whose value can be replaced."""
    copy = deepcopy(valid)
    found: list[tuple[Any, Any]] = []
    left = [copy]
    while left:
        holder = left.pop()
        items: list[tuple[Any, Any]] = []
        if isinstance(holder, dict):
            items = list(holder.items())
        elif isinstance(holder, list):
            items = list(enumerate(holder))
        found += [(holder, key) for key, _ in items]
        left += [value for _, value in items]
    return copy, found


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()
