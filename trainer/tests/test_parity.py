"""Loss by loss against transformers' own Trainer, on the same rows in the same order."""

from pathlib import Path
from typing import Any

import pytest

from kwanzaa_trainer.chat import chat_format
from kwanzaa_trainer.data import Reader
from kwanzaa_trainer.packing import row_order

SEED = 7
STEPS = 6


@pytest.mark.slow
def test_every_loss_and_gradient_equals_that_of_transformers(
    make_run: Any, torch: Any, base: Path, tokenizer: Any, tmp_path: Path
) -> None:
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
    ours = [(r["loss"], r["grad_norm"], r["lr"]) for r in run.folder.metrics()]
    theirs = _losses_of_transformers(run, torch, base, tokenizer, tmp_path)
    assert len(ours) == len(theirs) == STEPS
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(reference, rel=1e-5)


def _losses_of_transformers(
    run: Any, torch: Any, base: Path, tokenizer: Any, work: Path
) -> list[tuple[float, float, float]]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    chat = chat_format(tokenizer, None)
    data = Reader(tokenizer, chat, "chat_jsonl", 256).read(run.root / "input/train.jsonl", "t")
    order = row_order(len(data.samples), seed=SEED, epoch=0)
    ordered = [data.samples[i] for i in order]

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(SEED)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=targets)
    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        weight_decay=0.01,
        max_grad_norm=0.1,
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        use_cpu=True,
        seed=SEED,
        disable_tqdm=True,
    )
    trainer = InOrder(
        get_peft_model(model, config), arguments, train_dataset=ordered, data_collator=_padded
    )
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
