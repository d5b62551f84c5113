"""The typed, bounded values that config sections are made of."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import PurePath, PurePosixPath
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)

_FLAG_WORDS = {"yes": True, "on": True, "no": False, "off": False}


class Section(BaseModel):
    """A mapping of known keys: immutable, closed to unknown ones, silent about its input.

    Input is never echoed in errors, because a value in the wrong place may be a credential.
    Schemas are built at first use, so that importing this package stays cheap.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,
        protected_namespaces=(),
    )


def given(section: object, key: str) -> bool:
    """Whether `key` was written in `section`, which is a mapping or a built section."""
    if isinstance(section, Mapping):
        return section.get(key) is not None
    return isinstance(section, BaseModel) and key in section.model_fields_set


def _flag(value: object) -> object:
    """YAML 1.1 words for true and false, which many people still write."""
    return _FLAG_WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _path_text(value: object) -> object:
    return str(value) if isinstance(value, PurePath) else value


def _no_control_characters(text: str) -> str:
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError("must be one line without control characters")
    return text


def _inside_the_artifact(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("must be a file name inside the artifact, without '..' or a leading '/'")
    return name


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _to_decimal(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be an amount such as 12.50")
    if isinstance(value, int | float):
        value = repr(value)
    if not isinstance(value, str):
        return value
    try:
        return Decimal(value.strip())
    except InvalidOperation:
        raise ValueError("must be an amount such as 12.50, without a currency sign") from None


Flag = Annotated[bool, BeforeValidator(_flag), Strict()]
"""true or false; the words yes, no, on and off are understood as well."""

Whole = Annotated[int, Strict()]
"""A whole number; text, true and 4.0 are refused."""

Real = Annotated[float, Strict()]
"""A finite number; text and true are refused."""

Count = Annotated[int, Strict(), Field(ge=1, le=10_000_000)]
"""At least one."""

Line = Annotated[
    str,
    BeforeValidator(_path_text),
    Strict(),
    Field(min_length=1, max_length=1000),
    AfterValidator(_no_control_characters),
]
"""One line of text, not empty."""

FilePath = Line
"""A path as it is written in the file; `loading.resolve_file` finds what it names."""

ArtifactName = Annotated[Line, AfterValidator(_inside_the_artifact)]
"""The name of a file inside the artifact's folder."""

RunName = Annotated[str, Strict(), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A name that is safe as a folder, an object key and part of a machine's name."""

ProviderName = Annotated[str, Strict(), Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]

Usd = Annotated[
    Decimal,
    BeforeValidator(_to_decimal),
    Field(gt=0, le=1_000_000, allow_inf_nan=False),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*$"},
            ]
        }
    ),
]
"""US dollars, exact: a number or a text in the file, a string in canonical JSON."""

Hours = Annotated[float, Strict(), Field(gt=0, le=10_000)]

Label = str | int | float | bool | tuple[str, ...]
"""What a user may write beside the known keys of a metadata section."""

ProviderNames = Annotated[
    tuple[ProviderName, ...],
    BeforeValidator(_one_or_several),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[a-z][a-z0-9_-]{0,49}$"},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "string", "pattern": r"^[a-z][a-z0-9_-]{0,49}$"},
                },
            ]
        }
    ),
]
