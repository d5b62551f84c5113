"""Pydantic's findings in the words of somebody who edits a YAML file.

No message repeats a value from the file, numbers and text alike: it may be a credential.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kwanzaa_compute.config.consistency import Problem
from kwanzaa_compute.config.keys import Path, dotted, is_known, known_keys, nearest, trimmed

MOST_DESCRIBED: Final = 200
"""Hints cost time; a file with more mistakes than this is not read by anybody anyway."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong at one place; `others` are further keys that take part in it.

    `line` is set where it is known better than from the path; `kind` is pydantic's error type.
    """

    path: Path
    message: str
    kind: str = ""
    others: tuple[Path, ...] = ()
    line: int | None = None

    @property
    def text(self) -> str:
        """Key and message, without file and line."""
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def describe(error: ValidationError) -> list[Finding]:
    """What pydantic found, one finding a place, at most `MOST_DESCRIBED`."""
    findings: dict[object, Finding] = {}
    for detail in error.errors(include_url=False)[:MOST_DESCRIBED]:
        for finding in _findings(detail):
            findings.setdefault((finding.path, finding.kind == "conflict"), finding)
    return list(findings.values())


def _findings(detail: ErrorDetails) -> Iterator[Finding]:
    if detail["type"] == "conflict":
        for problem in detail["ctx"]["problems"]:
            yield _conflict(problem)
        return
    path = trimmed(detail["loc"])
    key = ".".join(part for part in path if isinstance(part, str))
    if key in _SPECIAL or (key not in known_keys() and is_known((key,))):
        path = tuple(part for part in path if isinstance(part, str))
    yield Finding(path, _message(path, key, detail), kind=detail["type"])


def _conflict(problem: Problem) -> Finding:
    first, *others = (tuple(key.split(".")) for key in problem.keys)
    return Finding(first, problem.message, kind="conflict", others=tuple(others))


def _message(path: Path, key: str, detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        message = f"unknown key; {nearest(path)}"
    elif kind == "missing":
        message = "is missing" + _meaning(key)
    elif value is None:
        message = "has no value: give it one, or remove the line"
    elif key in _SPECIAL:
        message = _SPECIAL[key]
    elif key and key not in known_keys():
        message = "must be text, a number, true, false, or a list of texts"
    else:
        message = _PLAIN.get(kind, _other)(value, detail.get("ctx", {}))
    return message


def _meaning(key: str) -> str:
    field = known_keys().get(key)
    return f": {field.description}" if field is not None and field.description else ""


def _number(what: str) -> Callable[[object, Mapping[str, Any]], str]:
    def message(value: object, _: object) -> str:
        quoted = isinstance(value, str) and re.fullmatch(r"\s*[-+.\deE_]+\s*", value)
        return f"must be {what}" + (", without quotes or underscores" if quoted else "")

    return message


def _text(value: object, _: object) -> str:
    scalar = isinstance(value, int | float)
    return "must be text" + (": put quotes around it" if scalar else "")


def _choice(value: object, context: Mapping[str, Any]) -> str:
    options = re.findall(r"'([^']*)'", context["expected"])
    close = difflib.get_close_matches(value.lower(), options, n=1) if isinstance(value, str) else []
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"must be {', '.join(options[:-1])}{' or ' * (len(options) > 1)}{options[-1]}{hint}"


def _bound(words: str, name: str) -> Callable[[object, Mapping[str, Any]], str]:
    return lambda _, context: f"must be {words} {context[name]}"


def _says(words: str) -> Callable[[object, Mapping[str, Any]], str]:
    return lambda _, __: words


def _too_short(value: object, _: object) -> str:
    return "must not be empty" if isinstance(value, str) else "must name at least one"


def _other(_: object, context: Mapping[str, Any]) -> str:
    error = context.get("error")
    return str(error) if isinstance(error, ValueError) else "is not valid here"


_SECTION = _says("must be a section: keys of its own, indented below it")

_PLAIN: Final[Mapping[str, Callable[[object, Mapping[str, Any]], str]]] = {
    "int_type": _number("a whole number"),
    "float_type": _number("a number"),
    "finite_number": _says("must be a finite number"),
    "bool_type": _says("must be true or false"),
    "string_type": _text,
    "literal_error": _choice,
    "tuple_type": _says("must be a list"),
    "model_type": _SECTION,
    "dict_type": _SECTION,
    "greater_than": _bound("greater than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "string_too_short": _says("must not be empty"),
    "string_too_long": _bound("no longer in characters than", "max_length"),
    "too_short": _too_short,
    "too_long": _bound("no longer than", "max_length"),
    "decimal_type": _says("must be an amount such as 12.50"),
    "value_error": _other,
}

_SPECIAL: Final = {
    "run.name": "may hold up to 100 letters, digits, '.', '_' and '-', and starts with a letter"
    " or digit",
    "adapter.lora.target_modules": "must be a list of layer names, or the word all-linear",
    "checkpointing.greater_is_better": "must be false: loss and perplexity are better when smaller",
    "publishing.metadata.language": "must be a language code such as en, or a list of them",
    "cost_estimate.currency": "must be a currency code of three letters, such as USD",
    "compute.provider": "must be the name of a provider, such as runpod, or a list of names",
}
