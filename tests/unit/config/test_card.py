"""The model card: what it says of a base on the Hub, of one in a folder, and of what a run took."""

from pathlib import Path

import yaml

from kwanzaa_compute.config import TrainingConfig, parse
from kwanzaa_compute.config.card import model_card

SUMMARY = {"base_sha256": "b" * 64, "train_data_sha256": "d" * 64, "train_loss": 0.51234}


def config(base: str, revision: str | None = None) -> TrainingConfig:
    text = f"model: {{base_model_id: {base}}}\ndata: {{train_file: train.jsonl}}\n"
    changes = {"model.revision": revision} if revision else {}
    return parse(text.encode(), Path("training.yaml"), changes).config


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_a_base_on_the_hub_is_named_with_its_revision() -> None:
    card = model_card(config("org/base", "abc123"), SUMMARY, "2026-11-24")
    assert header(card)["base_model"] == "org/base"
    assert "`org/base`, revision `abc123`" in card
    assert "from_pretrained('org/base', revision='abc123', dtype=\"auto\")" in card
    assert "| Training data (sha256) | `" + "d" * 64 in card
    assert "| training loss, last step | 0.5123 |" in card


def test_where_a_folder_lay_is_not_told() -> None:
    card = model_card(config("/home/somebody/secret/base"), SUMMARY, "2026-11-24")
    assert "base_model" not in header(card)
    assert "somebody" not in card
    assert "A LoRA adapter for `base`" in card


def test_what_it_took_is_told_where_it_is_known() -> None:
    took = {"Hours": "0.50", "Cost": "$0.13"}
    card = model_card(config("org/base"), SUMMARY, "2026-11-24", at="me/adapter", took=took)
    assert "## What it took" in card
    assert "| Cost | $0.13 |" in card
    assert "PeftModel.from_pretrained(base, 'me/adapter')" in card
    assert "What it took" not in model_card(config("org/base"), SUMMARY, "2026-11-24")
