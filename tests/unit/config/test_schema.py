"""The JSON Schema for editors, and the canonical JSON that travels with a run."""

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kwanzaa_compute.config import TrainingConfig, json_schema
from kwanzaa_compute.config.keys import known_keys
from kwanzaa_compute.errors import ConfigError

MINIMAL: dict[str, Any] = {"model": {"base_model_id": "a/b"}, "data": {"train_file": "t.jsonl"}}

LINES: st.SearchStrategy[Any] = st.text(
    st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
)
COUNTS: st.SearchStrategy[Any] = st.integers(1, 10_000_000)
LABELS: st.SearchStrategy[Any] = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=9),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(LINES, max_size=3),
)
CONFIGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"base_model_id": LINES}, optional={"trust_remote_code": st.booleans()}
        ),
        "data": st.fixed_dictionaries(
            {"train_file": LINES},
            optional={
                "eval_file": LINES,
                "max_seq_length": st.integers(16, 131072),
                "system_prompt": st.text(st.characters(exclude_categories=("Cs",))),
            },
        ),
    },
    optional={
        "run": st.fixed_dictionaries(
            {},
            optional={
                "seed": st.integers(0, 2**32 - 1),
                "save_steps": COUNTS,
                "mixed_precision": st.sampled_from(["bf16", "fp16", "no"]),
                "report_to": st.lists(st.sampled_from(["tensorboard", "wandb", "mlflow"])),
                "output_dir": LINES,
            },
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": st.floats(1e-300, 0.999),
                "num_train_epochs": st.floats(0.01, 10_000),
                "max_steps": COUNTS,
                "per_device_train_batch_size": st.integers(1, 4096),
            },
        ),
        "adapter": st.fixed_dictionaries(
            {}, optional={"method": st.sampled_from(["lora", "qlora"])}
        ),
        "artifacts": st.fixed_dictionaries(
            {},
            optional={
                "metadata": st.dictionaries(st.from_regex(r"[a-z]{3,9}", fullmatch=True), LABELS)
            },
        ),
        "compute": st.fixed_dictionaries(
            {},
            optional={
                "max_usd": st.decimals("0.01", 1_000_000, places=2),
                "spot": st.booleans(),
                "provider": st.lists(st.sampled_from(["runpod", "lambda"]), min_size=1),
            },
        ),
    },
)


def accepted(values: dict[str, Any]) -> TrainingConfig | None:
    """The config, unless a random label happens to collide with a typed one."""
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as caught:
        error = caught
    assert all(detail["loc"][:2] == ("artifacts", "metadata") for detail in error.errors())
    return None


@settings(max_examples=150, deadline=None)
@given(CONFIGS)
def test_a_config_survives_its_canonical_json(values: dict[str, Any]) -> None:
    config = accepted(values)
    if config is not None:
        again = TrainingConfig.from_json(config.to_json())
        assert again == config
        assert again.to_json() == config.to_json()
        assert again.config_hash == config.config_hash


def test_the_hash_depends_on_what_is_meant_and_not_on_how_it_was_written() -> None:
    plain = TrainingConfig.model_validate(MINIMAL)
    spelled = TrainingConfig.model_validate({**MINIMAL, "run": {"seed": 42}})
    other = TrainingConfig.model_validate({**MINIMAL, "run": {"seed": 43}})
    assert plain.config_hash == spelled.config_hash
    assert plain.config_hash != other.config_hash


def test_canonical_json_is_sorted_and_keeps_money_exact() -> None:
    config = TrainingConfig.model_validate({**MINIMAL, "compute": {"max_usd": Decimal("0.10")}})
    assert b'"max_usd":"0.10"' in config.to_json()
    assert config.to_json().startswith(b'{"adapter":{')


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"{}", b"[" * 100_000])
def test_damaged_canonical_json_is_one_clear_error(text: bytes) -> None:
    with pytest.raises(ConfigError, match="stored config"):
        TrainingConfig.from_json(text)


def test_a_config_can_be_built_from_sections() -> None:
    base = TrainingConfig.model_validate(MINIMAL)
    run = type(base.run)(save_steps=9)
    config = TrainingConfig(model=base.model, data=base.data, run=run)
    assert config.checkpointing.save_steps == 9
    filled = TrainingConfig(
        model=base.model,
        data=base.data,
        run=run,
        evaluation=base.evaluation,
        checkpointing=type(base.checkpointing)(),
    )
    assert filled.save_steps == 9


def test_contradictions_are_refused_without_a_file_as_well() -> None:
    values = {**MINIMAL, "run": {"save_steps": 1}, "checkpointing": {"save_steps": 2}}
    with pytest.raises(ValidationError, match=r"run\.save_steps the same option twice"):
        TrainingConfig.model_validate(values)


def properties(schema: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{place}.{name}", field


def test_the_schema_is_valid_and_describes_every_key() -> None:
    schema: dict[str, Any] = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$id" not in schema
    definitions = schema["$defs"]
    fields = [*properties(schema, "")]
    fields += [
        field for name, section in definitions.items() for field in properties(section, name)
    ]
    assert len(fields) == len(known_keys())
    for place, field in fields:
        target = definitions[field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        assert field.get("description") or target.get("description"), place


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"run": {"save_steps": 3, "report_to": "none"}}, True),
        ({"compute": {"max_usd": 12.5, "provider": "runpod"}}, True),
        ({"compute": {"max_usd": "12.50", "provider": ["runpod"]}}, True),
        ({"artifacts": {"metadata": {"team": "blue"}}}, True),
        ({"checkpointing": {"save_seconds": None}}, True),
        ({"run": {"save_step": 3}}, False),
        ({"run": {"save_steps": 0}}, False),
        ({"training": {"optim": "sgd"}}, False),
        ({"adapter": {"lora": {"r": "16"}}}, False),
        ({"compute": {"max_usd": 0}}, False),
        ({"artifacts": {"metadata": {"team": {}}}}, False),
        ({"model": {}}, False),
    ],
)
def test_the_schema_and_the_loader_agree(change: dict[str, Any], *, valid: bool) -> None:
    values = {**MINIMAL, **change}
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(values) is valid
    try:
        TrainingConfig.model_validate(values)
    except ValidationError:
        assert not valid
    else:
        assert valid


def test_importing_the_config_brings_in_nothing_heavy() -> None:
    code = (
        "import sys; import kwanzaa_compute.config; "
        "print([m for m in ('yaml', 'jsonschema', 'torch', 'rich', 'obstore') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
