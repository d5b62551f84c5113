"""A good file means what it says, and options win over it."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.config import LoadedConfig, TrainingConfig, load_config, parse
from kwanzaa_compute.errors import ConfigError

Load = Callable[..., LoadedConfig]


def test_a_minimal_file_gets_the_founding_recipe(load_text: Load) -> None:
    config = load_text().config
    lora, quantization = config.adapter.lora, config.adapter.quantization
    assert (config.adapter.method, config.adapter.quantized) == ("qlora", True)
    assert (lora.r, lora.alpha, lora.dropout, len(lora.target_modules)) == (16, 32, 0.05, 7)
    assert quantization.bnb_4bit_quant_type == "nf4"
    assert quantization.bnb_4bit_use_double_quant
    training = config.training
    assert (training.learning_rate, training.lr_scheduler_type) == (2e-4, "cosine")
    assert (training.warmup_ratio, training.rows_per_step) == (0.03, 16)
    assert training.per_device_train_batch_size == 1
    assert training.optim == "paged_adamw_8bit"
    assert training.gradient_checkpointing
    assert config.data.max_seq_length == 2048
    assert (config.save_steps, config.eval_steps, config.save_total_limit) == (200, 200, 3)
    assert config.checkpointing.save_seconds == 600
    assert config.output_dir == "outputs/kwanzaa-adapter"
    assert not config.evaluates
    assert config.writes_tensorboard


@pytest.mark.parametrize(
    ("written", "value"),
    [("2e-4", 2e-4), ("2E-4", 2e-4), ("1.0e-8", 1e-8), (".5", 0.5), ("0.0002", 2e-4)],
)
def test_numbers_may_be_written_as_people_write_them(
    load_text: Load, written: str, value: float
) -> None:
    config = load_text(f"training:\n  learning_rate: {written}\n").config
    assert config.training.learning_rate == value


@pytest.mark.parametrize(
    ("written", "value"),
    [("true", True), ("yes", True), ("On", True), ("off", False), ("no", False), ("FALSE", False)],
)
def test_the_old_words_for_true_and_false_are_understood(
    load_text: Load, written: str, *, value: bool
) -> None:
    assert load_text(f"run:\n  deterministic: {written}\n").config.run.deterministic is value


def test_an_unquoted_no_is_a_word_where_a_word_is_asked_for(load_text: Load) -> None:
    config = load_text(
        "run:\n  mixed_precision: no\nevaluation:\n  strategy: no\n"
        "checkpointing:\n  save_strategy: no\n"
    ).config
    assert config.run.mixed_precision == "no"
    assert config.evaluation.strategy == "no"
    assert config.checkpointing.save_strategy == "no"


def test_an_unquoted_date_stays_text(load_text: Load) -> None:
    config = load_text("artifacts:\n  metadata:\n    training_date: 2026-01-20\n").config
    assert config.artifacts.metadata.training_date == "2026-01-20"


def test_an_empty_section_is_the_same_as_none(load_text: Load) -> None:
    assert load_text("training:\nadapter:\n  lora:\n").config == load_text().config


def test_a_byte_order_mark_and_windows_line_ends_are_harmless() -> None:
    text = "model:\r\n  base_model_id: a\r\ndata:\r\n  train_file: t\r\nrun:\r\n  seed: 3\r\n"
    loaded = parse(b"\xef\xbb\xbf" + text.encode(), Path("training.yaml"))
    assert loaded.config.run.seed == 3
    assert loaded.line_of("run.seed") == 6


@pytest.mark.parametrize(
    "section", ["run:\n  save_steps: 9\n", "checkpointing:\n  save_steps: 9\n"]
)
def test_one_of_two_keys_for_one_option_is_enough(load_text: Load, section: str) -> None:
    config = load_text(section).config
    assert config.save_steps == config.run.save_steps == config.checkpointing.save_steps == 9


def test_the_same_value_twice_is_no_conflict(load_text: Load) -> None:
    config = load_text("run:\n  output_dir: a\nartifacts:\n  output_dir: a\n").config
    assert config.output_dir == "a"


def test_the_effective_batch_size_alone_gives_the_accumulation(load_text: Load) -> None:
    text = "training:\n  effective_batch_size: 32\n  per_device_train_batch_size: 4\n"
    assert load_text(text).config.training.gradient_accumulation_steps == 8


@pytest.mark.parametrize("written", ["12.50", '"12.50"', "12.5"])
def test_the_cap_is_an_exact_amount(load_text: Load, written: str) -> None:
    cap = load_text(f"compute:\n  max_usd: {written}\n").config.compute.max_usd
    assert cap == Decimal("12.5")
    assert isinstance(cap, Decimal)


@pytest.mark.parametrize("written", ["runpod", "[runpod]"])
def test_one_provider_needs_no_list(load_text: Load, written: str) -> None:
    config = load_text(f"compute:\n  provider: {written}\n").config
    assert config.compute.provider == ("runpod",)


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("", True),
        ("run:\n  report_to: none\n", False),
        ("run:\n  report_to: []\n", False),
        ("run:\n  report_to: tensorboard\n", True),
        ("run:\n  report_to: []\nmonitoring:\n  tensorboard:\n    enabled: true\n", True),
        ("monitoring:\n  tensorboard:\n    enabled: false\n", False),
    ],
)
def test_tensorboard_is_on_unless_it_is_left_out(
    load_text: Load, text: str, *, writes: bool
) -> None:
    assert load_text(text).config.writes_tensorboard is writes


def test_your_own_labels_are_kept(load_text: Load) -> None:
    text = "artifacts:\n  metadata:\n    team: blue\n    tries: 3\n    names: [a, b]\n"
    metadata = load_text(text).config.artifacts.metadata
    assert metadata.model_extra == {"team": "blue", "tries": 3, "names": ("a", "b")}


def test_the_original_olmo_is_answered_with_its_native_twin() -> None:
    def native(name: str) -> str:
        config = TrainingConfig.model_validate(
            {"model": {"base_model_id": name}, "data": {"train_file": "t"}}
        )
        return config.model.native_base_model_id

    assert native("allenai/OLMo-7B-Instruct") == "allenai/OLMo-7B-Instruct-hf"
    assert native("allenai/OLMo-1B") == "allenai/OLMo-1B-hf"
    assert native("allenai/OLMo-2-1124-7B") == "allenai/OLMo-2-1124-7B"
    assert native("./tiny") == "./tiny"


def test_an_option_wins_over_the_file(load_text: Load) -> None:
    loaded = load_text("training:\n  max_steps: 9\n", training__max_steps=3)
    assert loaded.config.training.max_steps == 3
    assert loaded.line_of("training.max_steps") is None
    assert loaded.sets("training.max_steps")


def test_an_option_wins_over_both_keys_of_its_option(load_text: Load) -> None:
    text = "run:\n  output_dir: a\nartifacts:\n  output_dir: a\n"
    assert load_text(text, artifacts__output_dir=Path("b")).config.output_dir == "b"


def test_another_base_model_takes_the_old_ones_name_and_revision_away(load_text: Load) -> None:
    loaded = load_text(
        "artifacts:\n  metadata:\n    base_model_id: org/base\n"
        "publishing:\n  metadata:\n    base_model: org/base\n",
        model__base_model_id="org/other",
    )
    assert loaded.config.artifacts.metadata.base_model_id is None
    assert loaded.config.publishing.metadata.base_model is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("training__per_device_train_batch_size", 2),
        ("training__gradient_accumulation_steps", 32),
        ("training__effective_batch_size", 32),
    ],
)
def test_another_batch_size_is_no_conflict_with_the_files_arithmetic(
    load_text: Load, option: str, value: int
) -> None:
    text = "training:\n  gradient_accumulation_steps: 16\n  effective_batch_size: 16\n"
    assert load_text(text, **{option: value}).config.training.rows_per_step == 32


def test_an_option_may_switch_the_method(load_text: Load) -> None:
    text = "adapter:\n  method: qlora\n  quantization:\n    load_in_4bit: true\n"
    assert not load_text(text, adapter__method="lora").config.adapter.quantized


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (
            {"training__max_steps": 0},
            "training.yaml: option training.max_steps: must be at least 1",
        ),
        (
            {"training__max_step": 3},
            "option training.max_step: unknown key; did you mean max_steps?",
        ),
        ({"nonsense__key": 3}, "option nonsense.key: unknown key; there is no such section"),
        ({"compute__store": "s3://a:secret123@b"}, "option compute.store: holds what looks like"),
        (
            {"run__save_steps": 7, "checkpointing__save_steps": 8},
            "(run.save_steps as an option and checkpointing.save_steps as an option)",
        ),
    ],
)
def test_a_wrong_option_is_named_instead_of_a_line(
    load_text: Load, options: dict[str, object], phrase: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("", **options)
    assert phrase in str(caught.value)
    assert caught.value.line is None
    assert "secret123" not in str(caught.value)


def test_an_option_does_not_hide_a_broken_section(load_text: Load) -> None:
    with pytest.raises(ConfigError, match="training: must be a section") as caught:
        load_text("training: 3\n", training__max_steps=3)
    assert "training.yaml:5" in str(caught.value)


def test_a_config_cannot_be_changed(load_text: Load) -> None:
    config = load_text().config
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 3  # type: ignore[misc]


def test_a_file_on_disk_is_kept_byte_for_byte_but_never_shown(tmp_path: Path) -> None:
    from kwanzaa_compute.config import load

    path = tmp_path / "training.yaml"
    path.write_bytes(b"model: {base_model_id: a}\ndata: {train_file: t}  # private remark\n")
    loaded = load(path)
    assert loaded.raw == path.read_bytes()
    assert "private remark" not in repr(loaded)
    assert load_config(path) == loaded.config
