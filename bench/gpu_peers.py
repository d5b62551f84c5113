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
    rows, clock = _rows(), _clock()
    trainer = Trainer(
        model=get_peft_model(base, _lora()),
        args=TrainingArguments(**_arguments()),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        data_collator=_collate,
        callbacks=[clock],
    )
    _train(book, "transformers.Trainer nf4 all x1", trainer, clock)


def trl_trainer(book: Any) -> None:
    """TRL's SFTTrainer with its defaults, full rows, then with its own packing of short samples."""
    import trl
    from datasets import Dataset

    for name, rows, packing in (
        ("full rows", _rows(), False),
        ("its own packing", [list(s.ids) for s in g.short_samples(500, seed=11)[0]], True),
    ):
        with book.attempt(f"TRL {name}"):
            clock = _clock()
            trainer = trl.SFTTrainer(
                model=_base(),
                args=trl.SFTConfig(max_length=g.ROW, packing=packing, **_arguments()),
                train_dataset=Dataset.from_dict({"input_ids": rows}),
                processing_class=_tokenizer(),
                peft_config=_lora(),
                callbacks=[clock],
            )
            _train(book, f"TRL {trl.__version__} nf4 all x1, {name}", trainer, clock)
            del trainer


def _base() -> Any:
    base = g.make_base(quantised=True)
    base.is_quantized = False
    return base


def _rows() -> list[list[int]]:
    return [list(sample.ids) for sample in g.full_rows(80, seed=1)[0]]


def _lora() -> Any:
    from peft import LoraConfig

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
    )


def _arguments() -> dict[str, Any]:
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


def _clock() -> Any:
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


def _train(book: Any, name: str, trainer: Any, clock: Any) -> None:
    g.settle()
    trainer.train()
    took = sorted(b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    seen = trainer.state.num_input_tokens_seen
    book.note(
        name,
        tok_s=round(g.ROWS_A_STEP * g.ROW / took[len(took) // 2], 1),
        step_s=[round(t, 4) for t in took],
        loss=losses[:1],
        grad_norm=[float(n) for n in norms[:1]],
        tokens_seen=seen,
        **g.memory_now(),
    )


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<pad>": 0, "<end>": 1} | {c: i for i, c in enumerate(letters, start=2)}
    inner = Tokenizer(models.BPE(words, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)
