"""What `--json` writes is what docs/json.md says, key by key."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc

Cli = Callable[..., Any]
PAGE = (Path(__file__).parents[3] / "docs" / "json.md").read_text(encoding="utf-8")


def documented(command: str) -> set[str]:
    """The keys of the one object that a command writes."""
    (row,) = [line for line in PAGE.splitlines() if re.match(rf"\| [^|]*`{command}`[^|]*\|", line)]
    told = row.rsplit("|", 2)[1]
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", told))) | {"schema"}


def part(name: str) -> set[str]:
    """The keys of a part that several commands share."""
    text = PAGE.split(f"**{name}**", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", text)))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("plan", "CONFIG", "--offline"), 0),
        (("offers", "--gpu", "A100"), 0),
        (("runs",), 0),
        (("init", "new.yaml", "--yes", "--train-file", "DATA"), 0),
        (("validate", "CONFIG", "--provider", "local"), 0),
        (("doctor",), 0),
        (("providers",), 0),
        (("completion", "bash"), 0),
    ],
)
def test_one_object_has_the_keys_that_are_documented(
    cli: Cli, config: Path, words: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    files = {"CONFIG": config, "DATA": config.parent / "train.jsonl"}
    result = cli(*(files.get(word, word) for word in words), "--json")
    assert result.code == code, result.err
    assert set(result.json) == documented(words[0])


def test_runs_attempts_and_receipts_have_the_keys_that_are_documented(
    cli: Cli, learnt: kc.Run, tmp_path: Path
) -> None:
    *_, step, end = cli("resume", learnt.id, "--json").events
    assert set(step) == {"schema", "event"} | part("A look")
    assert set(end["receipt"]) == part("A receipt")
    shown = cli("show", learnt.id, "--json").json
    assert set(shown) == documented("show") | part("A run")
    assert set(shown["attempts"][0]) == part("An attempt")
    (row,) = cli("runs", "--json").json["runs"]
    assert set(row) == {"where"} | part("A run") | part("A look")
    assert set(cli("download", learnt.id, tmp_path / "got", "--json").json) == documented(
        "download"
    )


def test_an_offer_has_the_keys_that_are_documented(cli: Cli, config: Path) -> None:
    plan = cli("plan", config, "--offline", "--json").json
    assert set(plan["candidates"][0]["offer"]) == part("An offer")
    assert set(plan["candidates"][0]) == part("A candidate") - part("A refusal") | {"offer"}
    assert set(plan["refused"][0]) == part("A refusal")
