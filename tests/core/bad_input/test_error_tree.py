"""The tree of errors, walked as a whole; and what --debug may show."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kwanzaa_compute
import kwanzaa_trainer
from kwanzaa_compute import errors
from kwanzaa_compute.config.redaction import redacted
from kwanzaa_compute.errors import ConfigError, KwanzaaError, StoreError
from kwanzaa_compute.secret import Secret

CODES = {1, 2, 3, 4, 5, 6, 7}
SOURCES = [Path(p.__path__[0]) for p in (kwanzaa_compute, kwanzaa_trainer)]


def tree(root: type[KwanzaaError] = KwanzaaError) -> Iterator[type[KwanzaaError]]:
    """Every class of the tree in errors.py, the root first."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


NAMES = {kind.__name__ for kind in tree()}


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_each_error_says_what_it_is_and_what_to_do(kind: type[KwanzaaError]) -> None:
    assert len(inspect.cleandoc(kind.__doc__ or "")) > 20
    assert kind.exit_code in CODES
    error = kind("the moon is gone", mend="kwanzaa doctor")
    assert str(error) == "the moon is gone\n  -> kwanzaa doctor"
    usual = str(kind("the moon is gone"))
    assert usual.startswith("the moon is gone\n  -> "), "what mends it, although nobody said"
    assert "usual_mend" in vars(kind) or issubclass(kind, StoreError)
    assert kind.__name__ in (errors.__doc__ or ""), "the drawing at the top of errors.py"


def test_the_drawing_shows_the_tree_as_it_is() -> None:
    drawing = re.findall(r"^([ |]*(?:\+-- )?)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    above: dict[int, str] = {}
    for margin, name in drawing:
        depth = len(margin)
        parent = above.get(max((d for d in above if d < depth), default=-1))
        if parent:
            assert getattr(errors, name).__mro__[1].__name__ == parent
        above = {d: other for d, other in above.items() if d < depth} | {depth: name}
    assert {name for _, name in drawing} == NAMES


def test_an_error_with_a_place_begins_with_it() -> None:
    assert ConfigError("is odd", file="a.yaml", line=3).message == "a.yaml:3: is odd"
    assert ConfigError("is odd", file="a.yaml").message == "a.yaml: is odd"


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Every `raise SomeError(...)` of ours in the sources, with its place."""
    for root in SOURCES:
        for path in sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                call = node.exc if isinstance(node, ast.Raise) else None
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") in NAMES:
                    yield f"{path.relative_to(root.parent)}:{node.lineno}", call


def test_every_error_that_is_raised_has_a_message() -> None:
    found = list(raised())
    assert len(found) > 50
    bare = [
        place
        for place, call in found
        if not call.args or (isinstance(call.args[0], ast.Constant) and not call.args[0].value)
    ]
    assert bare == []


MENDED = {"UsageError", "ConfigError", "BudgetError", "NothingFitsError", "CredentialsError"}


def test_every_error_that_the_user_can_mend_says_how() -> None:
    silent = [
        f"{place} {call.func.id}"
        for place, call in raised()
        if isinstance(call.func, ast.Name)
        and call.func.id in MENDED
        and not any(word.arg in ("mend", None) for word in call.keywords)
    ]
    assert silent == []


def test_a_traceback_holds_no_credential() -> None:
    environment = {"RUNPOD_API_KEY": "my-key-is-long", "PATH": "/usr/bin:/bin", "AWS_SECRET": "no"}
    text = "File /usr/bin/x\n  call('my-key-is-long')\nhf_" + "A1b2" * 8 + " is bad\nand no more\n"
    shown = redacted(text, environment)
    assert shown == (
        "File /usr/bin/x\n  call('***')\n    (a line with a credential)\nand no more\n"
    )


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret("my-key-is-long")
    assert "my-key" not in f"{secret} {secret!r} {[secret]} {KwanzaaError(str(secret))}"
