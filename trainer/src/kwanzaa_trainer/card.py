"""The model card: what the adapter is, how it was made, how to load it."""

from collections.abc import Mapping
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

base = AutoModelForCausalLM.from_pretrained({base!r}, dtype="auto")
model = PeftModel.from_pretrained(base, "path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```
"""


def model_card(config: TrainingConfig, summary: Mapping[str, Any], date: str) -> str:
    """The README.md of an adapter, in Markdown with the Hub's header."""
    meta = config.artifacts.metadata
    told = meta.training_date
    facts = {
        "Base model": f"`{config.model.native_base_model_id}`",
        "Base weights (sha256)": f"`{summary['base_sha256']}`",
        "Training data (sha256)": f"`{summary['train_data_sha256']}`",
        "Method": f"{config.adapter.method}, r {config.adapter.lora.r}",
        "Seed": config.run.seed,
        "Trained": date if told == "auto" else told,
        **{k: v for k, v in (("Author", meta.author), ("Task", meta.task)) if v},
        **{k: v for k, v in (("Dataset version", meta.dataset_version),) if v},
    }
    figures = {label: summary[key] for key, label in FIGURES if summary.get(key) is not None}
    return "\n".join(
        [
            "---",
            yaml.safe_dump(_header(config), sort_keys=True).strip(),
            "---",
            f"# {config.run.name}",
            "",
            f"A LoRA adapter for `{config.model.base_model_id}`, trained with kwanzaa-compute.",
            "",
            _table(facts),
            "",
            "## Result",
            "",
            _table({k: _short(v) for k, v in figures.items()}),
            "",
            *_quality(summary.get("quality")),
            "## Loading",
            "",
            LOADING.format(base=config.model.native_base_model_id),
            "The whole configuration stands in `training_config.yaml`.",
            "",
        ]
    )


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
        "base_model": config.model.base_model_id,
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
