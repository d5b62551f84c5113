"""The same work by transformers.Trainer and by TRL, on the same base in the same run."""

import tempfile
import time
from typing import Any

import gpu_model as g
import torch


def transformers_trainer(book: Any) -> None:
    """transformers.Trainer as most tutorials set it up: the founding document's own way."""
    from peft import get_peft_model, prepare_model_for_kbit_training
    from transformers import Trainer, TrainingArguments

    base = prepare_model_for_kbit_training(
        _base(), gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    rows, clock = full_rows(), make_clock()
    trainer = Trainer(
        model=get_peft_model(base, _lora()),
        args=TrainingArguments(**arguments()),
        train_dataset=dataset(rows, labels=rows),
        data_collator=_collate,
        callbacks=[clock],
    )
    train(book, "transformers.Trainer nf4 all x1", trainer, clock)


def trl_trainer(book: Any) -> None:
    """TRL's SFTTrainer with its defaults, full rows."""
    _trl(book, "full rows", full_rows(), packing=False)


def trl_packing(book: Any) -> None:
    """The same with its own packing of short samples."""
    _trl(book, "its own packing", short_rows(), packing=True)


def _trl(book: Any, name: str, rows: list[list[int]], *, packing: bool) -> None:
    import trl

    clock = make_clock()
    trainer = trl.SFTTrainer(
        model=_base(),
        args=trl.SFTConfig(max_length=g.ROW, packing=packing, **arguments()),
        train_dataset=dataset(rows),
        processing_class=make_tokenizer(),
        peft_config=_lora(),
        callbacks=[clock],
    )
    train(book, f"TRL {trl.__version__} nf4 all x1, {name}", trainer, clock)


def dataset(rows: list[list[int]], **more: list[list[int]]) -> Any:
    """Tokenised samples as all three take them."""
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": rows, **more})


def _base() -> Any:
    base = g.make_base(quantised=True)
    base.is_quantized = False
    return base


def full_rows() -> list[list[int]]:
    """Samples of exactly one row each."""
    return [list(sample.ids) for sample in g.full_rows(80, seed=1)[0]]


def short_rows() -> list[list[int]]:
    """The short samples that ours is measured with."""
    return [list(sample.ids) for sample in g.short_samples(500, seed=11)[0]]


def _lora() -> Any:
    from peft import LoraConfig

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
    )


def arguments() -> dict[str, Any]:
    """The founding recipe in transformers' words."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": 4,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": g.ROWS_A_STEP,
        "learning_rate": 2e-4,
        "bf16": not g.SMALL,
        "use_cpu": g.SMALL,
        "optim": "adamw_torch" if g.SMALL else "paged_adamw_8bit",
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    }


def _collate(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: torch.tensor([f[key] for f in features]) for key in features[0]}


def make_clock() -> Any:
    """A callback that notes when each step ended, in `ends`."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """When each step ended."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            """Waits for the GPU and looks at the clock."""
            g.sync()
            self.ends.append(time.perf_counter())

    return Clock()


def train(book: Any, name: str, trainer: Any, clock: Any) -> None:
    """Runs it and writes the median step down. A packed row's useful tokens are the mean's."""
    g.settle()
    trainer.train()
    took = sorted(b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    lengths = [len(row) for row in trainer.train_dataset["input_ids"]]
    filled = sum(lengths) / (len(lengths) * g.ROW)
    rate = g.ROWS_A_STEP * g.ROW / took[len(took) // 2]
    book.note(
        name,
        tok_s=round(rate, 1),
        fill=round(filled, 4),
        useful_tok_s=round(rate * filled, 1),
        step_s=[round(t, 4) for t in took],
        loss=losses[:1],
        grad_norm=[float(n) for n in norms[:1]],
        **g.memory_now(),
    )


def make_tokenizer() -> Any:
    """One token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<pad>": 0, "<end>": 1} | {c: i for i, c in enumerate(letters, start=2)}
    inner = Tokenizer(models.BPE(words, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)
