"""The finished adapter: its folder, what is said about it, and its way into the store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.config.card import model_card
from kwanzaa_compute.store.folder import ADAPTER
from kwanzaa_compute.store.objects import Store, file_sha256, relative_paths

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class Report:
    """What is told beside the weights."""

    config: TrainingConfig
    summary: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    date: str


def write_adapter(folder: Path, model: Any, tokenizer: Any) -> None:
    """Writes adapter and tokenizer as peft and transformers do; always the same bytes."""
    config = model.peft_config["default"]
    if isinstance(config.target_modules, set):
        # peft would write the set in its hash order, which differs from process to process.
        config.target_modules = sorted(config.target_modules)
    # Never the embeddings: "auto" would ask the Hub whether the vocabulary has grown.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def write_documents(folder: Path, report: Report) -> list[str]:
    """Writes what `artifacts.include_files` asks for; returns the names nobody knows."""
    wanted = set(report.config.artifacts.include_files)
    if not report.config.checkpointing.generate_checksums:
        wanted.discard("checksums.json")
    if "training_config.yaml" in wanted:
        values = json.loads(report.config.to_json())
        _write(folder / "training_config.yaml", yaml.safe_dump(values, sort_keys=False))
    if "training_metrics.json" in wanted:
        content = {"summary": report.summary, "metrics": report.metrics}
        _write(folder / "training_metrics.json", json.dumps(content, indent=1, sort_keys=True))
    if "README.md" in wanted:
        card = model_card(report.config, report.summary, report.date)
        _write(folder / "README.md", card)
    if "checksums.json" in wanted:
        digests = {name: file_sha256(path) for path, name in relative_paths(folder)}
        digests.pop("checksums.json", None)
        _write(folder / "checksums.json", json.dumps(digests, indent=1, sort_keys=True))
    return sorted(name for name in wanted if not (folder / name).is_file())


def upload_adapter(store: Store, folder: Path) -> dict[str, str]:
    """Carries every file into the store; returns the sha256 of each. Raises `StoreError`."""
    return {name: store.upload(path, f"{ADAPTER}/{name}") for path, name in relative_paths(folder)}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
