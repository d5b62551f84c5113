"""The tree of keys that a training.yaml may hold, read off `TrainingConfig`."""

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from pydantic.fields import FieldInfo

from kwanzaa_compute.config.credentials import looks_like_a_credential
from kwanzaa_compute.config.fields import Section

Path = tuple[str | int, ...]
"""Where something stands in the file: keys, and the numbers of list entries."""

_SHOWN_CHARACTERS = 60


def dotted(path: Path) -> str:
    """A path as it is shown: `training.max_steps`, cut and escaped where it is unprintable.

    A key that looks like a credential, pasted into the wrong place, is not shown at all.
    """
    text = ".".join(str(part) for part in path)
    if looks_like_a_credential(text):
        return "(a key that is not repeated here)"
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


@cache
def known_keys() -> Mapping[str, FieldInfo]:
    """Every valid key, dotted, sections included."""
    from kwanzaa_compute.config.schema import TrainingConfig

    return dict(_walk(TrainingConfig, ""))


def _walk(section: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield prefix + name, field
        inner = section_of(field)
        if inner is not None:
            yield from _walk(inner, f"{prefix}{name}.")


def section_of(field: FieldInfo | None) -> type[Section] | None:
    """The section class behind a key, or None where the key holds a value."""
    annotation = field.annotation if field is not None else None
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


FREE_SECTIONS: Final = ("artifacts.metadata.", "publishing.metadata.")
"""Sections that take labels of the user's own beside the known keys."""


def is_known(path: Path) -> bool:
    """Whether a config may hold this key."""
    key = ".".join(str(part) for part in path)
    return key in known_keys() or f"{key.rpartition('.')[0]}." in FREE_SECTIONS


def trimmed(location: Path) -> Path:
    """A pydantic error location without what pydantic adds for unions."""
    for length in range(1, len(location) + 1):
        field = known_keys().get(".".join(str(part) for part in location[:length]))
        if field is None or section_of(field) is None:
            numbers = (part for part in location[length:] if isinstance(part, int))
            return (*location[:length], *numbers)
    return location


def nearest(path: Path) -> str:
    """A hint for an unknown key: the valid key that was probably meant, or the valid ones."""
    *above, name = (str(part) for part in path)
    prefix = "".join(part + "." for part in above)
    elsewhere = [key for key in known_keys() if key.rpartition(".")[2] == name]
    if elsewhere:
        return f"it belongs in {' or '.join(elsewhere[:2])}"
    siblings = [
        key[len(prefix) :]
        for key in known_keys()
        if key.startswith(prefix) and "." not in key[len(prefix) :]
    ]
    close = difflib.get_close_matches(name.lower(), siblings, n=1)
    if close:
        return f"did you mean {close[0]}?"
    names = {key.rpartition(".")[2]: key for key in known_keys()}
    far = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.75)
    if far:
        return f"did you mean {names[far[0]]}?"
    return f"valid here: {', '.join(siblings)}" if siblings else "there is no such section"
