"""Values that must never be printed, pickled or stored."""

from collections.abc import Iterable
from typing import NoReturn

SHORTEST = 6
"""A value with fewer characters is no credential, and would be found everywhere in a text."""


class Secret:
    """A credential. `reveal()` is the only way to its value; everything else shows `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")


def without(secrets: Iterable[Secret], text: str) -> str:
    """The text with each secret's value replaced, the longest first."""
    values = (secret.reveal() for secret in secrets)
    for value in sorted((v for v in values if len(v) >= SHORTEST), key=len, reverse=True):
        text = text.replace(value, "***")
    return text
