"""The model card: what the adapter is, how it was made, how to load it."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from kwanzaa_compute.config import TrainingConfig

FIGURES = (
    ("eval_loss_first", "eval loss before training"),
    ("eval_loss_best", "eval loss, best"),
    ("eval_loss_last", "eval loss, last"),
    ("perplexity", "perplexity of this adapter"),
    ("train_loss", "training loss, last step"),
    ("steps", "optimizer steps"),
    ("tokens", "tokens read"),
    ("train_s", "seconds of training"),
    ("energy_wh", "energy of the GPU in Wh"),
    ("precision", "precision"),
)

LOADING = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base!r}, {revision}dtype="auto")
model = PeftModel.from_pretrained(base, {at!r})
tokenizer = AutoTokenizer.from_pretrained({at!r})
```
"""
HERE = "path/to/this/folder"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def model_card(
    config: TrainingConfig,
    summary: Mapping[str, Any],
    date: str,
    *,
    at: str = HERE,
    took: Mapping[str, str] | None = None,
) -> str:
    """The README.md of an adapter, in Markdown with the Hub's header.

    `at` is where it is loaded from; `took` says what it took (hours, dollars), where that is known.
    """
    figures = {label: summary[key] for key, label in FIGURES if summary.get(key) is not None}
    base, revision = _base(config), config.model.revision
    pinned = f"revision={revision!r}, " if revision and _is_on_the_hub(config) else ""
    costs = ["## What it took", "", _table(took), ""] if took else []
    return "\n".join(
        [
            "---",
            yaml.safe_dump(_header(config), sort_keys=True).strip(),
            "---",
            f"# {config.run.name}",
            "",
            f"A LoRA adapter for `{base}`, trained with kwanzaa-compute.",
            "",
            _table(_facts(config, summary, date)),
            "",
            "## Result",
            "",
            _table({k: _short(v) for k, v in figures.items()}),
            "",
            *_quality(summary.get("quality")),
            *costs,
            "## Loading",
            "",
            LOADING.format(base=base, revision=pinned, at=at),
            "The whole configuration stands in `training_config.yaml`.",
            "",
        ]
    )


def _facts(config: TrainingConfig, summary: Mapping[str, Any], date: str) -> dict[str, Any]:
    meta, training = config.artifacts.metadata, config.training
    told, revision = meta.training_date, config.model.revision
    pinned = f", revision `{revision}`" if revision else ""
    return {
        "Base model": f"`{_base(config)}`{pinned}",
        "Base weights (sha256)": f"`{summary['base_sha256']}`",
        "Training data (sha256)": f"`{summary['train_data_sha256']}`",
        "Method": f"{config.adapter.method}, r {config.adapter.lora.r}",
        "Learning rate": training.learning_rate,
        "Sequence length": config.data.max_seq_length,
        "Seed": config.run.seed,
        "Trained": date if told == "auto" else told,
        **{k: v for k, v in (("Author", meta.author), ("Task", meta.task)) if v},
        **{k: v for k, v in (("Dataset version", meta.dataset_version),) if v},
    }


def _is_on_the_hub(config: TrainingConfig) -> bool:
    return bool(_REPOSITORY.fullmatch(config.model.base_model_id))


def _base(config: TrainingConfig) -> str:
    """The base model's name; of a folder its last part: where it lay is nobody's business."""
    name = config.model.native_base_model_id
    return name if _is_on_the_hub(config) else PurePath(name).name


def _quality(found: Mapping[str, Any] | None) -> list[str]:
    """What its answers to the evaluation data are worth; nothing where none were generated."""
    if not found:
        return []
    reached = {
        name.removesuffix("_rate").replace("_", " "): _reached(name, found)
        for name in found["rates"]
    }
    answered = f"Measured on {found['answered']} of {found['asked']} generated answers"
    return ["## Quality", "", _table(reached), "", f"{answered}.", ""]


def _reached(name: str, found: Mapping[str, Any]) -> str:
    rate, target = found["rates"][name], found["targets"][name]
    if rate is None:
        return "nothing to count"
    missed = ", **missed**" if name in (found["missed"] or ()) else ""
    return f"{100 * rate:.1f} %" + (f" (target {100 * target:g} %{missed})" if target else "")


def _header(config: TrainingConfig) -> dict[str, Any]:
    meta = config.publishing.metadata
    language = meta.language
    header = {
        "base_model": config.model.base_model_id if _is_on_the_hub(config) else None,
        "library_name": "peft",
        "license": meta.license,
        "language": list(language) if isinstance(language, tuple) else language,
        "tags": sorted({config.adapter.method, "lora", *meta.tags}),
    }
    return {key: value for key, value in header.items() if value}


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {key} | {str(value).replace('|', chr(92) + '|')} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _short(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value
