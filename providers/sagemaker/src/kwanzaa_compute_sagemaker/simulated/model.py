"""What AWS's own service model, which comes with botocore, says of a request or an answer.

The SDK checks types and required members; the service checks lengths, patterns and enumerations
as well. So does this: it is the simulator's first check, and the tests' check of the simulator.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.model import ServiceModel

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@cache
def service(name: str) -> "ServiceModel":
    """The model of one service."""
    import botocore.session

    return botocore.session.get_session().get_service_model(name)


def faults_of_request(name: str, operation: str, body: Any) -> list[str]:
    """Every way in which a request does not match the model; empty: it does."""
    return list(_faults(service(name).operation_model(operation).input_shape, body, ""))


def faults_of_answer(name: str, operation: str, body: Any) -> list[str]:
    """The same for an answer."""
    return list(_faults(service(name).operation_model(operation).output_shape, body, ""))


def _faults(shape: Any, value: Any, where: str) -> Iterator[str]:
    if shape is None:
        if value:
            yield f"{where or 'body'}: there is no such shape"
        return
    if not _is(value, _TYPES.get(shape.type_name, ())):
        yield f"{where or 'body'}: must be a {shape.type_name}"
        return
    yield from _limits(shape, value, where)
    match shape.type_name:
        case "structure":
            yield from _members(shape, value, where)
        case "list":
            for index, item in enumerate(value):
                yield from _faults(shape.member, item, f"{where}[{index}]")
        case "map":
            for key, item in value.items():
                yield from _faults(shape.key, key, f"{where}.{key}")
                yield from _faults(shape.value, item, f"{where}.{key}")


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _members(shape: Any, value: Mapping[str, Any], where: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield f"{where}.{name}: is required"
    for name, item in value.items():
        if name not in shape.members:
            yield f"{where}.{name}: is not known"
        else:
            yield from _faults(shape.members[name], item, f"{where}.{name}".lstrip("."))


def _limits(shape: Any, value: Any, where: str) -> Iterator[str]:
    size = value if isinstance(value, int | float) else len(value)
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield f"{where}: {size} is less than {least}"
    if most is not None and size > most:
        yield f"{where}: {size} is more than {most}"
    if isinstance(value, str):
        pattern = shape.metadata.get("pattern")
        # Java's \p{..} classes are none of Python's; those patterns are left to the service.
        if pattern and "\\p{" not in pattern and not re.fullmatch(pattern, value):
            yield f"Value '{value}' at '{where}': does not match {pattern}"
        if shape.enum and value not in shape.enum:
            yield f"Value '{value}' at '{where}': Member must satisfy enum value set"
