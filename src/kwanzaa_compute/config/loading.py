"""From a training.yaml on disk to a `TrainingConfig`, or to one error that names every line."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from kwanzaa_compute.config.document import MAX_BYTES, RefusedError, read_document
from kwanzaa_compute.config.review import Places, apply_overrides, as_error, review
from kwanzaa_compute.config.schema import TrainingConfig
from kwanzaa_compute.errors import ConfigError

NO_OVERRIDES: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config with what is known of the file that it came from.

    `lines` maps the dotted keys that the file sets to their lines (from 1). `overrides` are the
    dotted keys that were set from outside instead. `raw` is the file, byte for byte.
    """

    config: TrainingConfig
    path: Path
    raw: bytes = field(repr=False)
    lines: Mapping[str, int] = field(repr=False)
    overrides: frozenset[str] = frozenset()

    def sets(self, key: str) -> bool:
        """Whether the file or an override sets this dotted key."""
        return key in self.lines or key in self.overrides

    def line_of(self, key: str) -> int | None:
        """The line that sets this dotted key, if the file does."""
        return self.lines.get(key)


def load_config(path: Path, overrides: Mapping[str, object] = NO_OVERRIDES) -> TrainingConfig:
    """Read and validate a training.yaml; `ConfigError` names every problem with its line."""
    return load(path, overrides).config


def load(path: Path, overrides: Mapping[str, object] = NO_OVERRIDES) -> LoadedConfig:
    """Like `load_config`, but keep the bytes and the lines as well.

    `overrides` are dotted keys and their values, for example `{"training.max_steps": 10}`. They
    win over the file, and over the same option's other key in the file.
    """
    return parse(_read(path), path, overrides)


def parse(raw: bytes, path: Path, overrides: Mapping[str, object] = NO_OVERRIDES) -> LoadedConfig:
    """Like `load`, for the bytes of a file; `path` is what errors call it."""
    try:
        document = read_document(raw)
    except RefusedError as error:
        raise as_error([error.finding], Places(path)) from None
    apply_overrides(document, overrides)
    places = Places(path, document.lines, frozenset(overrides))
    config, findings = review(document, overrides)
    if config is None or findings:
        raise as_error(findings, places)
    lines = {".".join(map(str, key)): line for key, line in document.lines.items()}
    return LoadedConfig(config, path, raw, MappingProxyType(lines), places.overrides)


def _read(path: Path) -> bytes:
    """The file's bytes, at most one more than are accepted."""
    try:
        if not path.exists():
            raise ConfigError("there is no such file", file=path, mend=_similar(path))
        if not path.is_file():
            raise ConfigError("is not a file", file=path, mend="name the training.yaml itself")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise ConfigError(
            f"cannot be read: {reason}", file=path, mend="check the path and its permissions"
        ) from None


def _similar(path: Path) -> str:
    """What mends a wrong name: the file beside it that was probably meant."""
    beside = [file.name for ending in ("*.yaml", "*.yml") for file in path.parent.glob(ending)]
    close = difflib.get_close_matches(path.name, beside, n=1)
    if close:
        return f"did you mean {path.with_name(close[0])}?"
    return "check the path, or write one: kwanzaa init"
