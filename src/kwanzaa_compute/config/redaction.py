"""Tracebacks without credentials: they are pasted into reports."""

from collections.abc import Mapping

from kwanzaa_compute.config.credentials import looks_like_a_credential, names_a_credential

SHORTEST = 6
"""A value with fewer characters is no credential, and would be found everywhere in a text."""


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """The text without values of variables that are named or shaped like credentials.

    A line that still holds something in a credential's shape is left out as a whole.
    """
    secret = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST and (names_a_credential(name) or looks_like_a_credential(value))
    }
    for value in sorted(secret, key=len, reverse=True):
        text = text.replace(value, "***")
    return "".join(
        "    (a line with a credential)\n" if looks_like_a_credential(line) else line
        for line in text.splitlines(keepends=True)
    )
