"""Whatever the bytes are, loading them ends quickly, in a config or in a `ConfigError`."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.config import parse
from kwanzaa_compute.config.keys import known_keys
from kwanzaa_compute.errors import ConfigError

PATH = Path("training.yaml")
HEAD = b"model: {base_model_id: a}\ndata: {train_file: t}\n"
MIB = 1024 * 1024


def outcome(raw: bytes, overrides: dict[str, object] | None = None) -> str:
    """Load; anything but a config or a `ConfigError` with a message fails the test."""
    try:
        parse(raw, PATH, overrides or {})
    except ConfigError as caught:
        error = caught
    else:
        return "loaded"
    assert str(error).startswith("training.yaml")
    assert error.line is None or error.line >= 1
    return "refused"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_config_error(raw: bytes) -> None:
    assert outcome(raw) == "refused"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_after_a_good_head_is_answered(text: str) -> None:
    outcome(HEAD + text.encode("utf-8", "surrogatepass"))


@settings(max_examples=500, deadline=None)
@given(st.text("ab:-?[]{}&*!|>'\"%@#,\n \t~<2e.\\", max_size=60))
def test_any_yaml_like_text_is_answered(text: str) -> None:
    outcome(text.encode())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(known_keys())), VALUES, max_size=6))
def test_any_value_at_any_key_is_answered(chosen: dict[str, object]) -> None:
    tree: dict[str, Any] = {"model": {"base_model_id": "a"}, "data": {"train_file": "t"}}
    for key, value in chosen.items():
        *above, name = key.split(".")
        section = tree
        for part in above:
            inner = section.get(part)
            section[part] = inner if isinstance(inner, dict) else {}
            section = section[part]
        section[name] = value
    outcome(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(known_keys())) | st.text(max_size=12), VALUES, max_size=4
    )
)
def test_any_option_is_answered(overrides: dict[str, object]) -> None:
    outcome(HEAD, overrides)


BOMBS = {
    "aliases": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "open lists": b"[" * MIB,
    "open mappings": b"{" * MIB,
    "nested dashes": b"- " * (MIB // 2),
    "indentation": b"".join(b" " * depth + b"k:\n" for depth in range(1000)),
    "long quote": b'"' + b"a" * (MIB - 1),
    "many keys": b"".join(b"k%d: 1\n" % number for number in range(9900)),
    "repeated keys": b"run:\n" + b" seed: 1\n" * 9900,
    "many typos": b"training: {" + b", ".join(b"learning_rat%d: 1" % n for n in range(4000)) + b"}",
    "huge key": b'? "' + b"k" * 900_000 + b'"\n: 1\n',
    "almost tokens": b'a: "' + b"eyJ-" * (MIB // 4 - 10) + b'"',
    "almost addresses": b"# " + b"a://b:c" * (MIB // 7 - 10),
    "huge number": b"run: {seed: " + b"9" * 900_000 + b"}",
    "long block": b"a: |\n" + b" x\n" * 300_000,
}


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in BOMBS.items()])
def test_a_hostile_file_is_refused_quickly(raw: bytes) -> None:
    start = time.process_time()
    assert outcome(raw) == "refused"
    assert time.process_time() - start < 5
