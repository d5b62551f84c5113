"""A good config with good data, the command line over them, and proof that nothing was left."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.cli import main

SHAPE = {
    "model_type": "olmo",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 512,
}
HEAD = "model:\n  base_model_id: ./base\ndata:\n  train_file: train.jsonl\n"


def chat(*turns: str) -> dict[str, object]:
    """A chat of the given turns, the user's first."""
    roles = ("user", "assistant") * len(turns)
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, turns, strict=False)]}


GOOD = json.dumps(chat("Hi", "Habari!")).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What `kwanzaa train` said to a folder of files."""

    code: int
    out: str
    err: str
    runs: int

    def assert_refused(self, *phrases: str) -> None:
        """One clear message, exit code 2, nothing launched and nothing left in the ledger."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert self.err.count("error: ") == 1
        assert self.err.startswith("error: ")
        assert "Traceback" not in self.err
        assert [p for p in phrases if p not in self.err] == [], self.err
        assert self.runs == 0


Train = Callable[..., Answer]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A config, its data and a base that is good enough to plan with."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(SHAPE))
    (tmp_path / "train.jsonl").write_bytes(GOOD + b"\n")
    (tmp_path / "training.yaml").write_text(HEAD)
    return tmp_path


@pytest.fixture
def train(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """`train()` runs `kwanzaa train training.yaml --provider local --yes` in this process."""
    for name in list(os.environ):
        if name.startswith("KWANZAA_") and name != "KWANZAA_CI":
            monkeypatch.delenv(name)
    monkeypatch.setenv("KWANZAA_HOME", str(folder / "home"))

    def run(*words: str) -> Answer:
        capsys.readouterr()
        config = str(folder / "training.yaml")
        code = main(["train", config, "--provider", "local", "--yes", *words])
        shown = capsys.readouterr()
        launched = list((folder / "home" / "machines").glob("*"))
        return Answer(code, shown.out, shown.err, len(kc.Compute().runs()) + len(launched))

    return run
