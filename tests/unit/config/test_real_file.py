"""The first user's own training.yaml loads unchanged, and nothing in it is dropped silently."""

from pathlib import Path

import jsonschema
import yaml

from kwanzaa_compute.config import TrainingConfig, json_schema, load, notes_for


def test_the_real_file_means_what_it_says(real_file: Path) -> None:
    config = load(real_file).config
    assert config.run.name == "kwanzaa-adapter-v0"
    assert config.output_dir == "outputs/kwanzaa-adapter-v0"
    assert (config.save_steps, config.eval_steps, config.save_total_limit) == (7, 7, 3)
    assert config.model.base_model_id == "allenai/OLMo-7B-Instruct"
    assert config.model.native_base_model_id == "allenai/OLMo-7B-Instruct-hf"
    assert config.model.trust_remote_code
    assert (config.adapter.lora.r, config.adapter.lora.alpha) == (16, 32)
    assert config.adapter.quantized
    assert config.data.train_file == "data/training/kwanzaa_train.jsonl"
    assert config.data.packing
    assert config.data.max_seq_length == 2048
    assert config.training.num_train_epochs == 4
    assert config.training.rows_per_step == config.training.effective_batch_size == 16
    assert config.training.optim == "paged_adamw_8bit"
    assert config.training.adam_epsilon == 1e-8
    assert config.training.early_stopping.patience == 3
    assert config.training.early_stopping.threshold == 0.001
    assert config.evaluates
    assert len(config.evaluation.metrics) == 6
    assert config.evaluation.generation.max_new_tokens == 800
    assert config.checkpointing.load_best_model_at_end
    assert config.artifacts.versioning.git_tag
    assert len(config.artifacts.include_files) == 6
    assert config.publishing.hf_repo == "ainative/kwanzaa-adapter-v0"
    assert config.publishing.private is False
    assert config.publishing.metadata.tags == ("qlora", "citation", "grounded-chat", "rag")
    assert config.monitoring.mlflow.tracking_uri == "http://localhost:5000"
    assert config.hardware.minimum_vram_gb == 10
    assert config.cost_estimate.estimated_total_cost == 3.0
    assert config.writes_tensorboard


def test_the_real_file_is_answered_with_exactly_these_notes(real_file: Path) -> None:
    loaded = load(real_file)
    assert [(note.key, note.line) for note in notes_for(loaded)] == [
        ("run.dataloader_num_workers", 17),
        ("run.dataloader_pin_memory", 18),
        ("model.base_model_id", 22),
        ("model.model_config_path", 23),
        ("model.trust_remote_code", 24),
        ("model.use_flash_attention", 25),
        ("model.device_map", 29),
        ("model.low_cpu_mem_usage", 30),
        ("adapter.adapter_config_path", 35),
        ("data.num_proc", 71),
        ("data.preprocessing_num_workers", 72),
        ("artifacts.versioning", 150),
        ("monitoring.tensorboard.log_dir", 195),
        ("hardware", 211),
        ("cost_estimate", 219),
    ]


def test_every_value_of_the_real_file_arrives(real_file: Path) -> None:
    """An independent YAML reader sees the same values at the same keys."""

    def compare(written: object, read: object, key: str) -> None:
        if isinstance(written, dict):
            for name, value in written.items():
                compare(value, getattr(read, name), f"{key}.{name}")
        elif isinstance(written, list):
            assert tuple(written) == read, key
        else:
            assert written == read, key

    loaded = load(real_file)
    compare(yaml.safe_load(loaded.raw), loaded.config, "")


def test_the_real_file_survives_the_store(real_file: Path) -> None:
    config = load(real_file).config
    again = TrainingConfig.from_json(config.to_json())
    assert again == config
    assert again.config_hash == config.config_hash


def test_the_real_file_trains_on_another_base_by_one_option(real_file: Path) -> None:
    loaded = load(real_file, {"model.base_model_id": "./tiny", "training.max_steps": 10})
    assert loaded.config.model.native_base_model_id == "./tiny"
    assert loaded.config.artifacts.metadata.base_model_id is None
    assert "model.base_model_id" not in [note.key for note in notes_for(loaded)]


def test_editors_accept_the_real_file(real_file: Path) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(real_file.read_bytes()))
