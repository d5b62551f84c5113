"""Configs that cannot be used, through the real command line: one message, code 2, nothing left.

What each wrong key is told is held in tests/unit/config; here it is what the user is left with.
"""

import ast
from pathlib import Path
from typing import Any

import pytest

HEAD = "model:\n  base_model_id: ./base\ndata:\n  train_file: train.jsonl\n"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

# name, text of the whole file, line, what the message says
CONFIGS: list[tuple[str, bytes, int, str]] = [
    ("a YAML bomb", BOMB.encode(), 1, "anchor or alias"),
    ("10 MB", HEAD.encode() + b"# padding\n" * 1_050_000, 1, "larger than 1048576 bytes"),
    ("a python tag", b"run: !!python/object/apply:os.system ['id']\n", 1, "uses a tag"),
    ("a python name", b"run: !!python/name:os.system\n", 1, "uses a tag"),
    ("an alias", HEAD.encode() + b"run: &r {seed: 1}\ntraining: *r\n", 5, "anchor or alias"),
    ("a key twice", HEAD.encode() + b"run:\n  seed: 1\n  seed: 2\n", 7, "is set twice"),
    ("an unknown key", HEAD.encode() + b"  formt: chat_jsonl\n", 5, "did you mean format?"),
    ("a wrong type", HEAD.encode() + b"run:\n  seed: many\n", 6, "a whole number"),
    ("a negative number", HEAD.encode() + b"training:\n  max_steps: -4\n", 6, "must be"),
    ("quoted numbers", HEAD.encode() + b"  max_seq_length: '64'\n", 5, "without quotes"),
    ("bad UTF-8", HEAD.encode() + b"run:\n  name: caf\xe9\n", 6, "is not UTF-8"),
    ("UTF-16", HEAD.encode("utf-16"), 1, "is not UTF-8"),
    ("NUL", HEAD.encode() + b"\x00", 5, "a character that YAML does not allow"),
    ("deep nesting", b"run: " + b"[" * 5000, 1, "nested deeper"),
    ("JSONL", b'{"messages": []}\n{"messages": []}\n', 2, "YAML"),
    ("a lone surrogate", HEAD.encode() + b'run:\n  name: "a\\ud800"\n', 6, "is not valid YAML"),
    (
        "an artifact that climbs out",
        HEAD.encode() + b"artifacts:\n  include_files: [../../etc/passwd]\n",
        6,
        "a file name inside the artifact",
    ),
    (
        "an absolute artifact",
        HEAD.encode() + b"artifacts:\n  include_files: [/etc/passwd]\n",
        6,
        "a file name inside the artifact",
    ),
    (
        "a run that climbs out",
        HEAD.encode() + b"run:\n  name: ../../etc/cron.d/x\n",
        6,
        "may hold up to 100 letters",
    ),
    (
        "an output folder with a NUL",
        HEAD.encode() + b'run:\n  output_dir: "a\\0b"\n',
        6,
        "run.output_dir",
    ),
    (
        "data that is nowhere",
        HEAD.replace("train.jsonl", "../../nowhere.jsonl").encode(),
        4,
        "there is no such file",
    ),
    ("data that is a folder", HEAD.replace("train.jsonl", "base").encode(), 4, "no such file"),
    ("a base that is nowhere", HEAD.replace("./base", "./bass").encode(), 2, "no model"),
    ("a base of unknown size", HEAD.replace("./base", "me/mine").encode(), 2, "is not known here"),
]


@pytest.mark.parametrize(
    ("text", "line", "phrase"), [pytest.param(*case[1:], id=case[0]) for case in CONFIGS]
)
def test_a_bad_config_starts_nothing(
    train: Any, folder: Path, text: bytes, line: int, phrase: str
) -> None:
    path = folder / "training.yaml"
    path.write_bytes(text)
    train().assert_refused(f"{path}:{line}: ", phrase)


@pytest.mark.parametrize("words", [("--max-steps", "0"), ("--max-hours", "-1"), ("--gpu", "")])
def test_a_bad_option_is_refused_as_the_key_would_be(train: Any, words: tuple[str, ...]) -> None:
    train(*words).assert_refused()


def test_a_config_with_windows_line_ends_and_a_bom_is_good(train: Any, folder: Path) -> None:
    path = folder / "training.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode() + b"  formt: x\r\n")
    train().assert_refused(f"{path}:5: ", "did you mean format?")


def test_there_are_at_least_eighty_bad_files_here_beside_those_of_the_config() -> None:
    bad_data = ast.parse((Path(__file__).parent / "test_bad_data.py").read_text())
    tables = {
        node.targets[0].id: len(node.value.elts)
        for node in bad_data.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.List)
    }
    assert sum(tables.values()) + len(CONFIGS) >= 80
