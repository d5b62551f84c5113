"""Data that cannot be trained on: refused with its line before anything is started."""

import codecs
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.compute.inputs import MOST_LINE_BYTES, count_text
from kwanzaa_compute.errors import DataError

GOOD = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "!"}]}'
USER = {"role": "user", "content": "Hi"}


def chat(*messages: Any) -> bytes:
    return json.dumps({"messages": list(messages)}).encode()


def answer(content: Any) -> bytes:
    return chat(USER, {"role": "assistant", "content": content})


# what is wrong, the second line of a file whose first is good, what the message says
LINES = [
    ("broken JSON", b'{"messages": [', "is not JSON"),
    ("no JSON at all", b"hello", "is not JSON"),
    ("two objects", GOOD + GOOD, "is not JSON: Extra data"),
    ("a trailing comma", b'{"messages": [],}', "is not JSON"),
    ("single quotes", b"{'messages': []}", "is not JSON"),
    ("a comment", b"# a comment", "is not JSON"),
    ("a raw NUL", b'{"messages": "\x00"}', "is not JSON: Invalid control character"),
    ("nothing but NUL", b"\x00" * 40, "is not JSON"),
    ("bad UTF-8", b'{"messages": "caf\xe9"}', "is not UTF-8"),
    ("UTF-16", codecs.BOM_UTF16_LE + '{"messages": 1}'.encode("utf-16-le"), "is not UTF-8"),
    ("an encoded surrogate", b'{"messages": "\xed\xa0\x80"}', "is not UTF-8"),
    ("a lone surrogate", answer("half of it: \ud83d"), "half a character"),
    ("a BOM in mid-file", codecs.BOM_UTF8 + GOOD, "is not JSON"),
    ("a number of 5,000 digits", b'{"messages": ' + b"9" * 5000 + b"}", "too many digits"),
    ("deep lists", b"[" * 100_000, "nested too deeply"),
    ("deep objects", b'{"a":' * 100_000, "nested too deeply"),
    ("a list", b"[1, 2]", "is not a JSON object"),
    ("a text", b'"hello"', "is not a JSON object"),
    ("a number", b"3", "is not a JSON object"),
    ("null", b"null", "is not a JSON object"),
    ("an empty object", b"{}", "needs 'messages'"),
    ("another format", b'{"prompt": "a", "completion": "b"}', "needs 'messages'"),
    ("a key in capitals", b'{"Messages": []}', "needs 'messages'"),
    ("no messages", b'{"messages": []}', "needs 'messages'"),
    ("messages as text", b'{"messages": "Hi"}', "needs 'messages'"),
    ("messages as an object", b'{"messages": {"role": "user"}}', "needs 'messages'"),
    ("messages as JSON in JSON", json.dumps({"messages": "[{}]"}).encode(), "needs 'messages'"),
    ("nested messages", chat([USER]), "message 1 needs a role"),
    ("a text for a message", chat("Hi"), "message 1 needs a role"),
    ("a null message", chat(USER, None), "message 2 needs a role"),
    ("no role", chat({"content": "Hi"}), "message 1 needs a role"),
    ("no content", chat({"role": "user"}), "message 1 needs a role and a content"),
    ("another role", chat({"role": "human", "content": "a"}), "must be system, user or"),
    ("a role in capitals", chat({"role": "User", "content": "a"}), "must be system, user or"),
    ("a tool's role", chat(USER, {"role": "tool", "content": "a"}), "message 2: the role must"),
    ("a null role", chat({"role": None, "content": "a"}), "the role must be"),
    ("a list as a role", chat({"role": ["user"], "content": "a"}), "the role must be"),
    ("null content", answer(None), "message 2: the content must be text"),
    ("a number as content", answer(3), "message 2: the content must be text"),
    ("parts as content", answer([{"type": "text", "text": "a"}]), "the content must be text"),
    ("an empty answer", answer(""), "message 2: the assistant's answer is empty"),
    ("a blank answer", answer(" \n\t"), "message 2: the assistant's answer is empty"),
    ("no answer", chat(USER), "no assistant's answer"),
    (
        "an assistant who speaks first",
        chat({"role": "assistant", "content": "Hi"}, USER),
        "message 1: the assistant speaks before any user",
    ),
]
OTHER_FORMATS = [
    ("prompt_completion_jsonl", b'{"prompt": "a"}', "needs 'completion'"),
    ("prompt_completion_jsonl", b'{"completion": "a"}', "needs 'prompt'"),
    ("prompt_completion_jsonl", b'{"prompt": "a", "completion": ""}', "needs 'completion'"),
    ("prompt_completion_jsonl", b'{"prompt": "", "completion": "a"}', "needs 'prompt'"),
    ("prompt_completion_jsonl", b'{"prompt": "a", "completion": 1}', "needs 'completion'"),
    ("prompt_completion_jsonl", b'{"prompt": ["a"], "completion": "a"}', "needs 'prompt'"),
    ("text_jsonl", b'{"text": ""}', "needs 'text'"),
    ("text_jsonl", b'{"text": null}', "needs 'text'"),
    ("text_jsonl", b'{"text": 1}', "needs 'text'"),
    ("text_jsonl", b'{"content": "a"}', "needs 'text'"),
]


@pytest.mark.parametrize(
    ("line", "phrase"), [pytest.param(*case[1:], id=case[0]) for case in LINES]
)
def test_a_bad_line_is_named(train: Any, folder: Path, line: bytes, phrase: str) -> None:
    path = folder / "train.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    train().assert_refused(f"{path}:2: ", phrase, "\n  -> a line of chat_jsonl: ")


@pytest.mark.parametrize(("form", "line", "phrase"), OTHER_FORMATS)
def test_each_format_names_its_bad_line(
    train: Any, folder: Path, form: str, line: bytes, phrase: str
) -> None:
    path = folder / "train.jsonl"
    path.write_bytes(b"\n\n" + line)
    with (folder / "training.yaml").open("a") as config:
        config.write(f"  format: {form}\n")
    train().assert_refused(f"{path}:3: ", phrase, f"\n  -> a line of {form}: ")


WHOLE = [
    ("empty", b"", "is empty"),
    ("blank lines only", b"\n \r\n\t\n", "nothing to train on"),
    ("a BOM only", codecs.BOM_UTF8, "nothing to train on"),
    ("pretty-printed", json.dumps([json.loads(GOOD)], indent=1).encode(), "train.jsonl:1: "),
    ("one array", b"[" + GOOD + b"]", "train.jsonl:1: is not a JSON object"),
    ("gzip", b"\x1f\x8b\x08\x00" + bytes(range(256)), "train.jsonl:1: is not UTF-8"),
    ("old line ends", GOOD + b"\r" + GOOD, "train.jsonl:1: is not JSON: Extra data"),
    ("CSV", b"role,content\nuser,Hi\n", "train.jsonl:1: is not JSON"),
]


@pytest.mark.parametrize(("data", "phrase"), [pytest.param(*w[1:], id=w[0]) for w in WHOLE])
def test_a_file_of_another_kind_is_refused(
    train: Any, folder: Path, data: bytes, phrase: str
) -> None:
    (folder / "train.jsonl").write_bytes(data)
    train().assert_refused(phrase, "\n  -> ")


def test_the_evaluation_file_is_read_as_strictly(train: Any, folder: Path) -> None:
    (folder / "eval.jsonl").write_bytes(b"{}\n")
    with (folder / "training.yaml").open("a") as config:
        config.write("  eval_file: eval.jsonl\nevaluation:\n  steps: 5\n")
    train().assert_refused("eval.jsonl:1: needs 'messages'")


def test_answers_longer_than_the_sequence_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(GOOD + b"\n" + (answer("umoja " * 300) + b"\n") * 2)
    with pytest.raises(DataError, match=r"train\.jsonl:2: 2 of 3 samples.* = 64 tokens") as caught:
        count_text(path, "chat_jsonl", 64)
    assert "raise data.max_seq_length" in caught.value.mend
    assert count_text(path, "chat_jsonl", 128).samples == 3


def test_ten_problems_are_told_at_once_and_no_more(train: Any, folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(b"{}\n" * 50)
    answer = train()
    answer.assert_refused("train.jsonl:1: ", "train.jsonl:10: ")
    assert "train.jsonl:11: " not in answer.err


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("wb") as file:
        file.truncate(40 * MOST_LINE_BYTES)  # sparse: it takes no room on the disk
    with pytest.raises(DataError, match=r"train\.jsonl:1: is longer than 64 MiB"):
        count_text(path, "chat_jsonl")


def test_data_that_cannot_be_opened_is_a_data_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(DataError, match="cannot be read"):
            count_text(path, "chat_jsonl")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GOOD, id="no newline at the end"),
        pytest.param(GOOD + b"\r\n" + GOOD + b"\r\n", id="CRLF"),
        pytest.param(codecs.BOM_UTF8 + GOOD + b"\n", id="BOM"),
        pytest.param(b"\n\n" + GOOD + b"\n\n", id="blank lines"),
        pytest.param(answer("a\x00b"), id="an escaped NUL"),
        pytest.param(answer("\U0001f56f candle"), id="a whole surrogate pair"),
        pytest.param(answer("umoja\u2028ujima"), id="a line separator inside a text"),
        pytest.param(
            chat(
                {"role": "system", "content": ""},
                USER,
                json.loads('{"role": "assistant", "content": "!", "weight": 1}'),
            ),
            id="more keys",
        ),
    ],
)
def test_good_data_in_odd_clothes_is_taken(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(data)
    assert count_text(path, "chat_jsonl", 64).samples >= 1


def test_a_hundred_megabytes_are_read_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    line = answer("umoja ujima " * 40) + b"\n"
    path.write_bytes(line * (20_000_000 // len(line)))
    started = time.process_time()
    count_text(path, "chat_jsonl", 512)
    assert time.process_time() - started < 4, "a fifth of 100 MB"


FORMATS = st.sampled_from(["chat_jsonl", "prompt_completion_jsonl", "text_jsonl"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "text", "prompt", "completion"]),
            inner | st.sampled_from(["user", "assistant", "system"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "data.jsonl"


def outcome(path: Path, data: bytes, form: str) -> None:
    """Counts the bytes; anything but a count or a `DataError` that names its place fails."""
    path.write_bytes(data)
    refused: DataError | None = None
    try:
        assert count_text(path, form, 64).samples > 0
    except DataError as error:
        refused = error
    if refused is not None:
        assert refused.file == str(path)
        assert str(path) in refused.message
        assert refused.mend


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), form=FORMATS)
def test_any_bytes_are_counted_or_refused(scratch: Path, data: bytes, form: str) -> None:
    outcome(scratch, data, form)


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(VALUES, max_size=4), form=FORMATS)
def test_any_json_is_counted_or_refused(scratch: Path, rows: list[Any], form: str) -> None:
    outcome(scratch, "\n".join(json.dumps(row) for row in rows).encode(), form)


def test_a_process_of_its_own_ends_with_the_same_words(folder: Path, train: Any) -> None:
    (folder / "train.jsonl").write_bytes(GOOD + b"\n{\n")
    words = [sys.executable, "-m", "kwanzaa_compute", "train", "training.yaml", "--yes"]
    child = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert child.returncode == 2
    assert child.stdout == ""
    assert child.stderr.startswith(f"error: {folder / 'train.jsonl'}:2: is not JSON")
    assert "Traceback" not in child.stderr
