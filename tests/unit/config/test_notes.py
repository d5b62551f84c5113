"""What is not applied is said, with the reason; what asks for nothing needs no words."""

from collections.abc import Callable

import pytest

from kwanzaa_compute.config import LoadedConfig, notes_for

Load = Callable[..., LoadedConfig]


def keys(loaded: LoadedConfig) -> list[str]:
    return [note.key for note in notes_for(loaded)]


def test_a_minimal_file_needs_no_notes(load_text: Load) -> None:
    assert notes_for(load_text()) == ()


@pytest.mark.parametrize(
    ("text", "key", "phrase"),
    [
        ("run:\n  report_to: [wandb, mlflow]\n", "run.report_to", "TensorBoard"),
        ("run:\n  dataloader_num_workers: 4\n", "run.dataloader_num_workers", "in memory"),
        ("run:\n  dataloader_pin_memory: yes\n", "run.dataloader_pin_memory", "in memory"),
        ("adapter:\n  adapter_config_path: a.yaml\n", "adapter.adapter_config_path", "this file"),
        (
            "evaluation:\n  metrics: [loss, json_valid_rate]\n",
            "evaluation.metrics",
            "json_valid_rate not measured: nothing is evaluated",
        ),
        ("evaluation:\n  generation:\n    top_k: 5\n", "evaluation.generation", "no metric"),
        ("evaluation:\n  targets:\n    json_valid_rate: 1\n", "evaluation.targets", "no metric"),
        ("artifacts:\n  versioning:\n    enabled: yes\n", "artifacts.versioning", "never touched"),
        ("publishing:\n  enabled: true\n", "publishing.enabled", "kwanzaa publish"),
        ("monitoring:\n  mlflow:\n    enabled: true\n", "monitoring.mlflow.enabled", "TensorBoard"),
        (
            "monitoring:\n  tensorboard:\n    log_dir: x\n",
            "monitoring.tensorboard.log_dir",
            "folder",
        ),
        ("hardware:\n  minimum_vram_gb: 10\n", "hardware", "the plan computes"),
        ("cost_estimate:\n  training_hours: 2\n", "cost_estimate", "today's prices"),
        (
            "artifacts:\n  metadata:\n    base_model_id: org/old\n",
            "artifacts.metadata.base_model_id",
            "trained on org/base",
        ),
        (
            "training:\n  early_stopping:\n    enabled: true\n",
            "training.early_stopping.enabled",
            "data.eval_file is not set",
        ),
    ],
)
def test_a_key_that_is_not_applied_is_noted_with_its_reason(
    load_text: Load, text: str, key: str, phrase: str
) -> None:
    (note,) = notes_for(load_text(text))
    assert note.key == key
    assert phrase in note.message
    assert note.line is not None
    assert str(note).startswith(f"line {note.line}: {key}: ")


@pytest.mark.parametrize(
    "text",
    [
        "run:\n  report_to: [tensorboard]\n  dataloader_num_workers: 0\n",
        "evaluation:\n  metrics: [loss, perplexity]\n",
        "artifacts:\n  versioning:\n    enabled: false\n    git_tag: true\n",
        "publishing:\n  enabled: false\n  hf_repo: a/b\n",
        "monitoring:\n  wandb:\n    enabled: false\n    project: p\n",
        "training:\n  early_stopping:\n    enabled: false\n",
    ],
)
def test_a_key_that_asks_for_nothing_is_not_noted(load_text: Load, text: str) -> None:
    assert notes_for(load_text(text)) == ()


def test_several_gpus_are_noted_key_by_key(load_text: Load) -> None:
    loaded = load_text("hardware:\n  distributed_training: true\n  num_gpus: 4\n")
    assert keys(loaded) == ["hardware", "hardware.distributed_training", "hardware.num_gpus"]


@pytest.mark.parametrize("remote", [True, False])
def test_the_original_olmo_is_replaced_aloud(load_text: Load, *, remote: bool) -> None:
    loaded = load_text(
        "", model__base_model_id="allenai/OLMo-7B-Instruct", model__trust_remote_code=remote
    )
    notes = {note.key: note for note in notes_for(loaded)}
    assert "allenai/OLMo-7B-Instruct-hf" in notes["model.base_model_id"].message
    assert notes["model.base_model_id"].line is None
    assert ("model.trust_remote_code" in notes) is remote


def test_a_revision_is_said_to_be_looked_up_in_the_twin(load_text: Load) -> None:
    options = {"model__base_model_id": "allenai/OLMo-7B", "model__revision": "main"}
    (note,) = notes_for(load_text("", **options))
    assert "model.revision is looked up" in note.message


def test_remote_code_is_never_run_for_any_model(load_text: Load) -> None:
    (note,) = notes_for(load_text("", model__trust_remote_code=True))
    assert "never run" in note.message


def test_an_evaluation_file_that_is_never_used_is_noted(load_text: Load) -> None:
    loaded = load_text("evaluation:\n  strategy: no\n", data__eval_file="eval.jsonl")
    assert keys(loaded) == ["data.eval_file"]


def test_an_evaluation_without_a_file_is_noted(load_text: Load) -> None:
    text = "evaluation:\n  strategy: epoch\ncheckpointing:\n  load_best_model_at_end: true\n"
    assert keys(load_text(text)) == ["evaluation.strategy", "checkpointing.load_best_model_at_end"]


def test_a_compute_dtype_that_differs_from_the_precision_is_noted(load_text: Load) -> None:
    text = "run: {mixed_precision: bf16}\nadapter: {quantization: {bnb_4bit_compute_dtype: %s}}\n"
    assert keys(load_text(text % "float16")) == ["adapter.quantization.bnb_4bit_compute_dtype"]
    assert keys(load_text(text % "bfloat16")) == []
