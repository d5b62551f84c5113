"""Loss by loss against transformers' own Trainer and TRL's, on the same rows in the same order."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_trainer.chat import chat_format
from kwanzaa_trainer.data import Reader, Sample
from kwanzaa_trainer.packing import row_order

SEED = 7
STEPS = 6
LORA = {
    "task_type": "CAUSAL_LM",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
}
ARGUMENTS = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 1,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "weight_decay": 0.01,
    "max_grad_norm": 0.1,
    "optim": "adamw_torch",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "seed": SEED,
    "disable_tqdm": True,
}
Steps = list[tuple[float, float, float]]
"""Loss, gradient's norm and learning rate of each step."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(make_run: Any) -> Any:
    """Our own run of that recipe."""
    run = make_run(
        adapter={"method": "lora", "lora": {"dropout": 0.0}},
        training={
            "max_steps": None,
            "num_train_epochs": 1,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.3,
            "weight_decay": 0.01,
            "max_grad_norm": 0.1,
        },
        evaluation={"strategy": "no"},
    )
    assert run.train() == 0, run.complaints()
    return run


@pytest.fixture(scope="module")
def ours(run: Any) -> Steps:
    """What it did, step by step."""
    return [(r["loss"], r["grad_norm"], r["lr"]) for r in run.folder.metrics()]


@pytest.fixture(scope="module")
def ordered(run: Any, tokenizer: Any) -> list[Sample]:
    """The samples in the order in which our run reads them."""
    reader = Reader(tokenizer, chat_format(tokenizer, None), "chat_jsonl", 256)
    data = reader.read(run.root / "input/train.jsonl", "t")
    return [data.samples[i] for i in row_order(len(data.samples), seed=SEED, epoch=0)]


def test_every_loss_and_gradient_equals_that_of_transformers(
    ours: Steps, ordered: list[Sample], torch: Any, base: Path, tmp_path: Path
) -> None:
    assert_same(ours, _steps_of_transformers(ordered, torch, base, tmp_path))


def test_every_loss_and_gradient_equals_that_of_trl(
    ours: Steps, ordered: list[Sample], base: Path, tmp_path: Path, witness: Any
) -> None:
    """TRL comes with packages that nothing here uses; it borrows torch and the rest from us."""
    here = Path(__file__).parent
    python = witness("trl==1.15.0", lock=here / "trl.lock")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    rows = [{"input_ids": list(row.ids), "labels": list(row.labels)} for row in ordered]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    settings = json.dumps({"lora": LORA, "arguments": ARGUMENTS})
    words = [str(base), str(tmp_path / "rows.json"), str(tmp_path / "out.json"), settings]
    told = subprocess.run(
        [sys.executable, str(here / "trl_reference.py"), *words],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    assert_same(ours, json.loads((tmp_path / "out.json").read_text()))


def assert_same(ours: Steps, theirs: Steps) -> None:
    assert len(ours) == len(theirs) == STEPS
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(tuple(reference), rel=1e-5)


def _steps_of_transformers(ordered: list[Sample], torch: Any, base: Path, work: Path) -> Steps:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(SEED)
    arguments = TrainingArguments(output_dir=str(work), remove_unused_columns=False, **ARGUMENTS)
    adapted = get_peft_model(model, LoraConfig(**LORA))
    trainer = InOrder(adapted, arguments, train_dataset=ordered, data_collator=_padded)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    return [(r["loss"], r["grad_norm"], r["learning_rate"]) for r in rows]


def _padded(rows: list[Any]) -> dict[str, Any]:
    """The rows as transformers wants them, with a mask."""
    import torch

    longest = max(len(row.ids) for row in rows)
    fill = [longest - len(row.ids) for row in rows]
    pairs = list(zip(rows, fill, strict=True))
    return {
        "input_ids": torch.tensor([[*r.ids, *[0] * f] for r, f in pairs]),
        "labels": torch.tensor([[*r.labels, *[-100] * f] for r, f in pairs]),
        "attention_mask": torch.tensor([[1] * len(r.ids) + [0] * f for r, f in pairs]),
    }
