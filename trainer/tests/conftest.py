"""A tiny base with a byte-level tokenizer, and runs laid out in a folder as the control side does.

One torch thread: with more, a tiny model on a busy machine is many times slower.
"""

import json
import logging
import os
import random
import shutil
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.store.checkpoints import list_checkpoints
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, EVAL_DATA, TRAIN_DATA, Done, RunFolder
from kwanzaa_compute.store.objects import Store, open_store, relative_paths
from kwanzaa_trainer.attempt import run_attempt
from kwanzaa_trainer.data import IGNORED, Sample
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop

VOCABULARY = 320
WORDS = (
    *("umoja", "kujichagulia", "ujima", "ujamaa", "nia", "kuumba"),
    *("imani", "harvest", "candle", "mat", "corn", "cup"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Silences what libraries say to one another; warnings of ours stay errors."""
    for harmless in (
        "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning",  # peft asks transformers
        "ignore:Paged optimizers are not supported on CPU:UserWarning",  # we say it ourselves
    ):
        config.addinivalue_line("filterwarnings", harmless)


@pytest.fixture(scope="session")
def torch() -> Any:
    """Torch, on one thread."""
    import torch

    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token a byte, with pad and end tokens; no chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<eos>": 1} | {c: i for i, c in enumerate(letters, start=2)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="session")
def base(torch: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random OLMo of 2 layers in a folder, as a user's own base would be."""
    from transformers import OlmoConfig, OlmoForCausalLM

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = OlmoConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=1,
    )
    OlmoForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat(number: int) -> dict[str, Any]:
    """A short chat, different for each number, of different lengths."""
    word, other = WORDS[number % len(WORDS)], WORDS[(number * 5 + 1) % len(WORDS)]
    return {
        "messages": [
            {"role": "user", "content": f"What is {word}?"},
            {"role": "assistant", "content": f"{word} goes with {other} " * (1 + number % 3)},
        ]
    }


def lines(rows: list[dict[str, Any]]) -> bytes:
    """The rows as JSONL."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@dataclass(frozen=True)
class TinyRun:
    """A run's folder on this machine, with everything in it that the control side would put."""

    root: Path

    @property
    def url(self) -> str:
        return f"file://{self.root}"

    @property
    def store(self) -> Store:
        return open_store(self.url)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.store)

    def train(
        self,
        attempt: int = 1,
        *,
        store: Store | None = None,
        stop: Stop | None = None,
        clock: Clock | None = None,
        interruptions_per_h: float = 0.0,
    ) -> int:
        """Runs an attempt in this process; returns its exit code."""
        settings = Settings(
            attempt=attempt,
            heartbeat_s=0.0,
            threads=1,
            interruptions_per_h=interruptions_per_h,
        )
        return run_attempt(store or self.store, settings, clock or Clock(), stop or Stop())

    def copy(self, target: Path) -> "TinyRun":
        """The same folder elsewhere, to be damaged."""
        shutil.copytree(self.root, target)
        return TinyRun(target)

    def checkpoints(self) -> list[str]:
        return [str(name) for name in list_checkpoints(self.store)]

    def done(self) -> Done:
        done = self.folder.done()
        assert done is not None, self.complaints()
        return done

    def complaints(self) -> str:
        """Why the attempts failed, for a failing test to show."""
        failures = [self.folder.failure(attempt) for attempt in self.folder.attempts()]
        return "; ".join(f.message for f in failures if f)

    def losses(self) -> dict[tuple[int, str], str]:
        """Every logged loss of all attempts, exact to the bit."""
        rows = self.folder.metrics()
        return {(int(r["step"]), str(r["kind"])): str(r["loss_hex"]) for r in rows}

    def adapter(self) -> bytes:
        return self.store.get("adapter/adapter_model.safetensors")

    def events(self, name: str, attempt: int = 1) -> list[dict[str, Any]]:
        """The records of one event in the attempt's log."""
        records = self.store.get(f"attempts/{attempt}/log.jsonl").splitlines()
        return [r for r in map(json.loads, records) if r["event"] == name]


def tiny_config(**changes: Any) -> dict[str, Any]:
    """A training.yaml for the tiny base; `changes` are sections that are laid over it, deep."""
    config: dict[str, Any] = {
        "run": {"name": "tiny", "seed": 7, "logging_steps": 1, "report_to": []},
        "model": {"base_model_id": "example/tiny-olmo"},
        "adapter": {"method": "qlora", "lora": {"r": 4, "alpha": 8, "dropout": 0.05}},
        "data": {
            "train_file": "train.jsonl",
            "eval_file": "eval.jsonl",
            "max_seq_length": 256,
            "packing": False,
        },
        "training": {
            "max_steps": 24,
            "learning_rate": 2e-3,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "optim": "adamw_torch",
            "gradient_checkpointing": False,
        },
        "evaluation": {"steps": 6},
        "checkpointing": {"save_steps": 4, "save_seconds": None},
    }
    return _laid_over(config, changes)


def _laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        inner = merged.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        merged[key] = _laid_over(inner, value) if both else value
    return merged


@pytest.fixture(scope="session")
def samples(torch: Any) -> Callable[[list[int]], list[Sample]]:
    """Random samples of the given lengths, of which everything but the first token is learnt."""

    def make(lengths: list[int]) -> list[Sample]:
        draw = random.Random(3)
        made = []
        for number, length in enumerate(lengths, start=1):
            ids = [draw.randrange(2, 258) for _ in range(length)]
            made.append(Sample(number, array("i", ids), array("i", [IGNORED, *ids[1:]])))
        return made

    return make


Maker = Callable[..., TinyRun]


@pytest.fixture(scope="session")
def make_run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Lays out a run: `make_run(train=rows, held_out=rows, training={...})`."""

    def make(
        *,
        train: list[dict[str, Any]] | bytes | None = None,
        held_out: list[dict[str, Any]] | None = None,
        model_folder: Path = base,
        **changes: Any,
    ) -> TinyRun:
        run = TinyRun(tmp_path_factory.mktemp("run"))
        store = run.store
        config = TrainingConfig.model_validate(tiny_config(**changes))
        store.put(CONFIG, config.to_json())
        rows = [chat(n) for n in range(22)] if train is None else train
        store.put(TRAIN_DATA, rows if isinstance(rows, bytes) else lines(rows))
        held_out = [chat(n) for n in range(100, 104)] if held_out is None else held_out
        store.put(EVAL_DATA, lines(held_out))
        for path, relative in relative_paths(model_folder):
            store.upload(path, f"{BASE_MODEL}/{relative}")
        return run

    return make


@pytest.fixture(scope="session")
def reference(make_run: Maker) -> TinyRun:
    """The default run, trained without interruption. Read it, change nothing in it."""
    run = make_run()
    assert run.train() == 0, run.complaints()
    return run
