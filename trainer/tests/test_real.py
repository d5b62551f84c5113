"""The first user's own files, unchanged, on a tiny base; they are found through KWANZAA_REAL."""

import os
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import load_config
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, TRAIN_DATA
from kwanzaa_compute.store.objects import relative_paths

REAL = os.environ.get("KWANZAA_REAL")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="KWANZAA_REAL is not set: the first user's files are missing")
def test_the_first_users_files_train_unchanged(make_run: Any, torch: Any, tmp_path: Path) -> None:
    real = Path(REAL or "")
    data = real / "kwanzaa_train.jsonl"
    config = load_config(real / "training.yaml")
    # One step and short answers; everything else as the user wrote it. `tests/e2e` has the rest.
    short = config.evaluation.generation.model_copy(update={"max_new_tokens": 40})
    config = config.model_copy(
        update={
            "training": config.training.model_copy(update={"max_steps": 1}),
            "evaluation": config.evaluation.model_copy(update={"generation": short}),
        }
    )
    run = make_run()
    for path, name in relative_paths(_base_for(torch, data, tmp_path)):
        run.store.upload(path, f"{BASE_MODEL}/{name}")
    run.store.put(CONFIG, config.to_json())
    run.store.put(TRAIN_DATA, data.read_bytes())
    assert run.train() == 0, run.complaints()
    summary = run.done().summary
    assert summary["skipped"]["train"]["count"] < 107 / 2
    assert summary["tokens"] > 1000
    assert summary["quality"]["asked"] > 0
    assert set(summary["quality"]["rates"]) == {
        *("json_valid_rate", "citation_coverage_rate"),
        *("refusal_correctness_rate", "retrieval_groundedness_rate"),
    }
    assert b"allenai/OLMo-7B-Instruct-hf" in run.store.get("adapter/README.md")


def _base_for(torch: Any, data: Path, folder: Path) -> Path:
    """A tiny base whose tokenizer knows the words of the data, as a real one would."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train([str(data)], trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    config = OlmoConfig(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
    )
    OlmoForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
