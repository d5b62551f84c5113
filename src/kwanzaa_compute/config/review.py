"""Hold a document against the schema and collect everything that is wrong with it."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from kwanzaa_compute.config.consistency import TWINS, superseded_by
from kwanzaa_compute.config.credentials import MEND, looks_like_a_credential, names_a_credential
from kwanzaa_compute.config.document import Document
from kwanzaa_compute.config.keys import (
    Path,
    dotted,
    is_known,
    known_keys,
    nearest,
    section_of,
)
from kwanzaa_compute.config.problems import Finding, describe
from kwanzaa_compute.config.schema import TrainingConfig
from kwanzaa_compute.errors import ConfigError

_NEEDED_SECTIONS: Final = ("model", "data")
MOST_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Places:
    """Where each key was set: a line of the file, or an option that overrides it."""

    file: FilePath
    lines: Mapping[Path, int] = field(default_factory=dict)
    overrides: frozenset[str] = frozenset()

    def option(self, path: Path) -> str | None:
        """The option that set this key, if one did."""
        parts = [str(part) for part in path]
        prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((prefix for prefix in prefixes if prefix in self.overrides), None)

    def line(self, path: Path) -> int:
        """The line of the key, or of the innermost section around it that the file has."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        return next((self.lines[prefix] for prefix in prefixes if prefix in self.lines), 1)

    def knows(self, path: Path) -> bool:
        """Whether the user set this key anywhere."""
        return path in self.lines or self.option(path) is not None


def apply_overrides(document: Document, overrides: Mapping[str, object]) -> None:
    """Set each overridden key in the document, and forget what the file said in its place.

    Unknown keys are left out; `review` reports them.
    """
    for key in overrides:
        for other in superseded_by(key):
            if other not in overrides:
                _forget(document, tuple(other.split(".")))
    for key, value in overrides.items():
        path = tuple(key.split("."))
        if is_known(path):
            _forget(document, path)
            _put(document.values, path, value)


def _forget(document: Document, path: Path) -> None:
    _delete(document.values, path)
    for known in [known for known in document.lines if known[: len(path)] == path]:
        del document.lines[known]


def _delete(values: dict[str, Any], path: Path) -> None:
    keys = [part for part in path if isinstance(part, str)]
    section: object = values
    for key in keys[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    if isinstance(section, dict) and keys:
        section.pop(keys[-1], None)


def _put(values: dict[str, Any], path: Path, value: object) -> None:
    section = values
    for key in path[:-1]:
        if section.get(str(key)) is None:
            section[str(key)] = {}
        section = section[str(key)]
        if not isinstance(section, dict):
            return  # The file's section is no mapping; that is reported on its line.
    section[str(path[-1])] = value


def review(
    document: Document, overrides: Mapping[str, object]
) -> tuple[TrainingConfig | None, list[Finding]]:
    """Validate; return the config, or None, and every finding."""
    places = Places(FilePath(), document.lines, frozenset(overrides))
    _open_empty_sections(document.values)
    config, found = _validated(document.values)
    found = [finding for finding in found if not _is_echo(finding, found, places)]
    secrets = [*_credential_keys(document.lines), *_credential_options(overrides)]
    secret_paths = {finding.path for finding in secrets}
    secret_lines = {places.line(finding.path) for finding in secrets}
    return config, [
        *secrets,
        *_unknown_options(overrides),
        *(finding for finding in document.findings if finding.line not in secret_lines),
        *(finding for finding in found if finding.path not in secret_paths),
    ]


def _unknown_options(overrides: Mapping[str, object]) -> Iterator[Finding]:
    for key in overrides:
        path = tuple(key.split("."))
        if not is_known(path):
            yield Finding(path, f"unknown key; {nearest(path)}", "extra_forbidden")


def _open_empty_sections(values: dict[str, Any]) -> None:
    """Read `training:` with nothing below it as an empty section, and add the needed ones."""
    for name in _NEEDED_SECTIONS:
        values.setdefault(name, {})
    for key, info in known_keys().items():
        if section_of(info) is None:
            continue
        *above, name = key.split(".")
        section: object = values
        for part in above:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section and section[name] is None:
            section[name] = {}


def _validated(values: dict[str, Any]) -> tuple[TrainingConfig | None, list[Finding]]:
    try:
        return TrainingConfig.model_validate(values), []
    except ValidationError as error:
        findings = describe(error)
    return None, [*findings, *_hidden_conflicts(values, findings)]


def _hidden_conflicts(values: dict[str, Any], findings: list[Finding]) -> Iterator[Finding]:
    """Contradictions that pydantic did not reach because single keys were wrong already."""
    bad = {finding.path for finding in findings}
    if any(finding.kind == "conflict" for finding in findings):
        return
    repaired = copy.deepcopy(values)
    for finding in findings:
        _delete(repaired, finding.path)
        if finding.kind == "missing":
            _put(repaired, finding.path, "missing")
    try:
        TrainingConfig.model_validate(repaired)
    except ValidationError as error:
        for finding in describe(error):
            if finding.kind == "conflict" and bad.isdisjoint((finding.path, *finding.others)):
                yield finding


def _is_echo(finding: Finding, found: Iterable[Finding], places: Places) -> bool:
    """Whether a finding only repeats one about the key that this one was filled from."""
    if finding.kind in {"missing", "conflict"} or places.knows(finding.path):
        return False
    key = ".".join(map(str, finding.path))
    twins = {tuple(other.split(".")) for pair in TWINS if key in pair for other in pair}
    return any(other.path in twins - {finding.path} for other in found)


def _credential_keys(lines: Mapping[Path, int]) -> Iterator[Finding]:
    for path in lines:
        if names_a_credential(str(path[-1])) and ".".join(map(str, path)) not in known_keys():
            yield Finding(path, "a config is no place for a credential", "credential")


def _credential_options(overrides: Mapping[str, object]) -> Iterator[Finding]:
    for key, value in overrides.items():
        if isinstance(value, str) and looks_like_a_credential(value):
            path = tuple(key.split("."))
            yield Finding(path, "holds what looks like a credential", "credential")


def as_error(findings: Iterable[Finding], places: Places) -> ConfigError:
    """One error with one line for each finding, in the order of the file."""
    located = sorted(
        ((_line(finding, places), finding) for finding in findings),
        key=lambda pair: (pair[0] is None, pair[0] or 0),
    )
    shown = [_described(finding, places) for _, finding in located[:MOST_SHOWN]]
    for index, (line, _) in enumerate(located[1:MOST_SHOWN], start=1):
        shown[index] = (
            f"{places.file}:{line}: {shown[index]}" if line else (f"{places.file}: {shown[index]}")
        )
    if len(located) > MOST_SHOWN:
        shown.append(f"... and {len(located) - MOST_SHOWN} or more further problems")
    kinds = {finding.kind for _, finding in located}
    return ConfigError("\n".join(shown), file=places.file, line=located[0][0], mend=_mend(kinds))


def _line(finding: Finding, places: Places) -> int | None:
    if finding.line is not None:
        return finding.line
    return None if places.option(finding.path) else places.line(finding.path)


def _described(finding: Finding, places: Places) -> str:
    option = "option " if finding.line is None and places.option(finding.path) else ""
    if not finding.others:
        return option + finding.text
    involved = (path for path in (finding.path, *finding.others) if places.knows(path))
    where = " and ".join(_where(path, places) for path in involved)
    return f"{option}{finding.text} ({where})"


def _where(path: Path, places: Places) -> str:
    set_by = "as an option" if places.option(path) else f"on line {places.line(path)}"
    return f"{dotted(path)} {set_by}"


def _mend(kinds: set[str]) -> str:
    if "credential" in kinds:
        return MEND
    return (
        "`kwanzaa schema` prints every key with its meaning" if "extra_forbidden" in kinds else ""
    )
