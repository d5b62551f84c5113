"""The user's JSON Schema of answers: checked before anything is spent on it, never fetched for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kwanzaa_compute.errors import ConfigError

KEY = "data.answer_schema_file"


def compliance(path: Path) -> Callable[[Any], bool]:
    """Whether a JSON value follows the schema in `path`, by the draft that it names.

    Formats are checked as far as `jsonschema` can without further packages (dates, addresses of
    machines, UUIDs). Raises `ConfigError` for what is not a schema, or refers to another document.
    """
    from jsonschema import FormatChecker
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = _read(path)
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise _refused(f"it is not a JSON Schema: {error.message}") from error
    _require_whole(schema)
    # A registry of its own: the default one would fetch what a schema refers to.
    validator = kind(schema, format_checker=FormatChecker(), registry=EMPTY_REGISTRY)

    def follows(value: Any) -> bool:
        try:
            return bool(validator.is_valid(value))
        except (Unresolvable, RecursionError):
            return False

    return follows


def _read(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _refused("it is not JSON") from error
    if not isinstance(schema, dict):
        raise _refused("it is not a JSON object")
    return schema


def _require_whole(schema: dict[str, Any]) -> None:
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    name = resource.id() or ""
    resolver = EMPTY_REGISTRY.with_resource(name, resource).crawl().resolver(name)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise _refused(f"it refers to {reference!r}, which is not in it") from error


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _refused(why: str) -> ConfigError:
    return ConfigError(f"{KEY} cannot be used: {why}", mend="put a JSON Schema in one file into it")
