"""YAML text to plain values, with the line of each key; hostile input ends early.

The parser's events are read one by one, so that nothing is ever expanded: aliases, anchors and
tags end the reading where they stand. Numbers follow YAML 1.2 (2e-4 is a number, 010 is ten);
yes, no, on and off stay text, which a true-or-false key understands.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kwanzaa_compute.config.credentials import looks_like_a_credential
from kwanzaa_compute.config.keys import Path
from kwanzaa_compute.config.problems import Finding

if TYPE_CHECKING:
    from yaml import Event, ScalarEvent, YAMLError

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 12
MAX_VALUES: Final = 20_000

_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]{1,300}|[0-9]{1,300}(?:\.[0-9]{0,300})?)(?:[eE][-+]?[0-9]{1,6})?"
)
_WORDS: Final[Mapping[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
}


class RefusedError(Exception):
    """The text cannot be read any further; carries the one finding that says why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.finding = Finding((), message, line=line)


@dataclass(slots=True)
class Document:
    """Plain values, the line of every key and list entry, and what was wrong on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_document(raw: bytes) -> Document:
    """Read the bytes of a file; raise `RefusedError` where reading on makes no sense."""
    from yaml import YAMLError

    text = _decoded(raw)
    try:
        document = _Reader(text).document()
    except YAMLError as error:
        raise _syntax(text, error) from None
    document.findings.extend(_credentials(text))
    return document


def _decoded(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise RefusedError(1, f"is larger than {MAX_BYTES} bytes: this is no training.yaml")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RefusedError(line, "is not UTF-8 text: save the file as UTF-8") from None
    if not text.strip():
        raise RefusedError(1, "is empty: model.base_model_id and data.train_file are needed")
    return text


def _syntax(text: str, error: "YAMLError") -> RefusedError:
    """The parser's complaint without the snippet of the file that it would quote."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = getattr(error, "position", None)
    if mark is not None:
        problem = getattr(error, "problem", None) or "cannot be understood"
        advice = "check quotes, colons and indentation on this line and the one above"
        return RefusedError(mark.line + 1, f"is not valid YAML: {problem}; {advice}")
    line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
    return RefusedError(line, "holds a character that YAML does not allow: remove it")


def _credentials(text: str) -> Iterator[Finding]:
    """One finding for each line that holds what looks like a credential, comments included."""
    for number, line in enumerate(text.splitlines(), start=1):
        if looks_like_a_credential(line):
            yield Finding((), "holds what looks like a credential", "credential", line=number)


class _Reader:
    """Builds one document from the parser's events."""

    def __init__(self, text: str) -> None:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._yaml = yaml
        self._events: Iterator[Event] = iter(yaml.parse(text, Loader=loader))
        self._read = 0
        self._result = Document()

    def document(self) -> Document:
        first = self._next()
        while isinstance(first, self._yaml.StreamStartEvent | self._yaml.DocumentStartEvent):
            first = self._next()
        if isinstance(first, self._yaml.StreamEndEvent):
            raise RefusedError(1, "holds only comments: nothing is set")
        value = self._value(first, ())
        if not isinstance(value, dict):
            raise RefusedError(
                _line(first), "must be a mapping of sections such as model: and data:"
            )
        self._only_document()
        self._result.values = value
        return self._result

    def _only_document(self) -> None:
        for event in self._events:
            if isinstance(event, self._yaml.DocumentStartEvent):
                message = "starts a second document: a config is one document, remove the ---"
                raise RefusedError(_line(event), message)

    def _next(self) -> "Event":
        event = next(self._events)
        self._read += 1
        if self._read > MAX_VALUES:
            raise RefusedError(_line(event), f"holds more than {MAX_VALUES} values")
        if isinstance(event, self._yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RefusedError(
                _line(event), "uses an anchor or alias (& or *): write the value out instead"
            )
        if getattr(event, "tag", None):
            raise RefusedError(_line(event), "uses a tag (!): remove it, plain values are enough")
        return event

    def _value(self, event: "Event", path: Path) -> object:
        if len(path) > MAX_DEPTH:
            raise RefusedError(_line(event), f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, self._yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, self._yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), self._yaml.SequenceEndEvent):
            inner = (*path, len(items))
            self._result.lines[inner] = _line(event)
            items.append(self._value(event, inner))
        return items

    def _mapping(self, path: Path) -> dict[str, object]:
        values: dict[str, object] = {}
        while not isinstance(event := self._next(), self._yaml.MappingEndEvent):
            if not isinstance(event, self._yaml.ScalarEvent):
                raise RefusedError(_line(event), "has a key that is not plain text")
            inner = (*path, event.value)
            if event.value in values:
                self._twice(inner, _line(event))
                self._skip(self._next(), path)
                continue
            self._result.lines[inner] = _line(event)
            values[event.value] = self._value(self._next(), inner)
        return values

    def _twice(self, path: Path, line: int) -> None:
        message = f"is set twice, first on line {self._result.lines[path]}: keep one of them"
        self._result.findings.append(Finding(path, message, "duplicate", line=line))

    def _skip(self, event: "Event", path: Path) -> None:
        """Read the value of a repeated key without recording its lines."""
        kept, self._result.lines = self._result.lines, {}
        found, self._result.findings = self._result.findings, []
        self._value(event, (*path, ""))
        self._result.lines, self._result.findings = kept, found


def _line(event: "Event") -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _scalar(event: "ScalarEvent") -> object:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
