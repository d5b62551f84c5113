"""Our config in AutoTrain's words (0.8.36, its last version), and what it has no words for. Pure.

What cannot be said is refused by the name of its key: a run that trains something else than was
asked for is worth less than none.
"""

from collections.abc import Callable, Sequence
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute_huggingface.meaning import CannotExpressError

TEXT_COLUMNS = {"chat_jsonl": "messages", "text_jsonl": "text"}
_MIXED = {"bf16": "bf16", "fp16": "fp16", "no": None}
_OPTIMISERS = frozenset({"adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"})

_REFUSED: Sequence[tuple[str, Callable[[TrainingConfig], bool]]] = (
    ("model.revision", lambda c: c.model.revision is not None),
    ("model.trust_remote_code: true", lambda c: c.model.trust_remote_code),
    ("model.base_model_id (a folder)", lambda c: c.model.base_model_id.startswith((".", "/", "~"))),
    ("adapter.lora.bias", lambda c: c.adapter.lora.bias != "none"),
    (
        "adapter.quantization.bnb_4bit_quant_type",
        lambda c: c.adapter.quantized and c.adapter.quantization.bnb_4bit_quant_type != "nf4",
    ),
    ("data.format", lambda c: c.data.format not in TEXT_COLUMNS),
    ("data.packing: false", lambda c: not c.data.packing),
    ("data.system_prompt", lambda c: c.data.system_prompt is not None),
    ("data.answer_schema_file", lambda c: c.data.answer_schema_file is not None),
    ("training.num_train_epochs", lambda c: c.training.num_train_epochs % 1 != 0),
    ("training.max_steps", lambda c: c.training.max_steps is not None),
    ("training.optim", lambda c: c.training.optim not in _OPTIMISERS),
    ("training.adam_beta1", lambda c: c.training.adam_beta1 != 0.9),  # noqa: PLR2004 -- its default
    ("training.adam_beta2", lambda c: c.training.adam_beta2 != 0.999),  # noqa: PLR2004 -- the same
    ("training.adam_epsilon", lambda c: c.training.adam_epsilon != 1e-8),  # noqa: PLR2004
    ("training.early_stopping", lambda c: c.training.early_stopping.enabled),
)


def refusals(config: TrainingConfig) -> list[str]:
    """The keys that AutoTrain has no words for, in the order of the config."""
    return [name for name, says_more in _REFUSED if says_more(config)]


def parameters_of(config: TrainingConfig, *, project: str, data_path: str) -> dict[str, Any]:
    """The parameters of AutoTrain's LLM task; `CannotExpressError` names what they cannot say."""
    if named := refusals(config):
        raise CannotExpressError(f"AutoTrain has no words for {', '.join(named)}")
    lora, training = config.adapter.lora, config.training
    modules = lora.target_modules
    return {
        "model": config.model.native_base_model_id,
        "project_name": project,
        "data_path": data_path,
        "train_split": "train",
        "valid_split": "validation" if config.data.eval_file else None,
        "trainer": "sft",
        "text_column": TEXT_COLUMNS[config.data.format],
        "chat_template": "tokenizer" if config.data.format == "chat_jsonl" else None,
        "block_size": config.data.max_seq_length,
        "model_max_length": config.data.max_seq_length,
        "use_flash_attention_2": config.model.use_flash_attention,
        "disable_gradient_checkpointing": not training.gradient_checkpointing,
        "logging_steps": config.run.logging_steps,
        "save_total_limit": config.run.save_total_limit,
        "mixed_precision": _MIXED[config.run.mixed_precision],
        "lr": training.learning_rate,
        "epochs": int(training.num_train_epochs),
        "batch_size": training.per_device_train_batch_size,
        "gradient_accumulation": training.gradient_accumulation_steps,
        "warmup_ratio": training.warmup_ratio,
        "optimizer": training.optim,
        "scheduler": training.lr_scheduler_type,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "seed": config.run.seed,
        "peft": True,
        "quantization": "int4" if config.adapter.quantized else None,
        "target_modules": modules if isinstance(modules, str) else ",".join(modules),
        "merge_adapter": False,
        "lora_r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "push_to_hub": True,
    }
