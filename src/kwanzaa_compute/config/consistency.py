"""The same option in two places: one is enough, and two that differ are an error."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from kwanzaa_compute.config.fields import given

if TYPE_CHECKING:
    from kwanzaa_compute.config.schema import TrainingConfig

TWINS: Final = (
    ("run.save_steps", "checkpointing.save_steps"),
    ("run.eval_steps", "evaluation.steps"),
    ("run.save_total_limit", "checkpointing.save_total_limit"),
    ("run.output_dir", "artifacts.output_dir"),
)
"""Pairs of keys that mean the same; after validation both hold the same value."""

_BATCH: Final = (
    "training.effective_batch_size",
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Keys (dotted, the first one is blamed) that contradict each other, and how."""

    keys: tuple[str, ...]
    message: str


def superseded_by(key: str) -> tuple[str, ...]:
    """The other keys of the file that an override of `key` makes meaningless.

    Whoever says `--output` means it, whatever the file says in its two places.
    """
    for twins in TWINS:
        if key in twins:
            return tuple(other for other in twins if other != key)
    if key == _BATCH[0]:
        return (_BATCH[2],)
    if key in _BATCH:
        return (_BATCH[0],)
    return {
        "adapter.method": ("adapter.quantization.load_in_4bit",),
        "model.base_model_id": (
            "model.revision",
            "artifacts.metadata.base_model_id",
            "publishing.metadata.base_model",
        ),
    }.get(key, ())


def with_twins_filled(data: object) -> object:
    """The raw sections with each twin that was left out set to the one that was given."""
    if not isinstance(data, Mapping):
        return data
    filled = dict(data)
    for left, right in TWINS:
        _copy(filled, left, right)
        _copy(filled, right, left)
    return filled


def _copy(data: dict[str, object], source: str, target: str) -> None:
    source_section, source_key = source.split(".")
    target_section, target_key = target.split(".")
    origin, section = data.get(source_section), data.get(target_section)
    if not given(origin, source_key) or given(section, target_key):
        return
    value = origin[source_key] if isinstance(origin, Mapping) else getattr(origin, source_key)
    if section is None:
        data[target_section] = {target_key: value}
    elif isinstance(section, Mapping):
        data[target_section] = {**section, target_key: value}
    elif isinstance(section, BaseModel):
        data[target_section] = section.model_copy(update={target_key: value})


def conflicts(config: "TrainingConfig") -> Iterator[Problem]:
    """Every pair of keys in a valid config that contradict each other."""
    for twins in TWINS:
        first, second = (_value(config, key) for key in twins)
        if first != second:
            yield Problem(twins, "the same option twice with different values: keep one of the two")
    yield from _batch_conflict(config)
    yield from _method_conflict(config)
    yield from _tracker_conflicts(config)


def _value(config: "TrainingConfig", key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def _batch_conflict(config: "TrainingConfig") -> Iterator[Problem]:
    training = config.training
    effective = training.effective_batch_size
    if effective is None or effective == training.rows_per_step:
        return
    product = (
        f"per_device_train_batch_size {training.per_device_train_batch_size}"
        f" x gradient_accumulation_steps {training.gradient_accumulation_steps}"
        f" = {training.rows_per_step}"
    )
    shared = " (all GPUs share these)" if config.hardware.num_gpus > 1 else ""
    yield Problem(_BATCH, f"is {effective}, but {product}{shared}: change one of them")


def _method_conflict(config: "TrainingConfig") -> Iterator[Problem]:
    four_bit, method = config.adapter.quantization.load_in_4bit, config.adapter.method
    if four_bit is None or four_bit == config.adapter.quantized:
        return
    yield Problem(
        ("adapter.quantization.load_in_4bit", "adapter.method"),
        f"is {str(four_bit).lower()}, but adapter.method is {method}: "
        f"use method {'qlora' if four_bit else 'lora'}, or leave load_in_4bit out",
    )


def _tracker_conflicts(config: "TrainingConfig") -> Iterator[Problem]:
    monitoring = config.monitoring
    switches = {
        "tensorboard": monitoring.tensorboard.enabled,
        "wandb": monitoring.wandb.enabled,
        "mlflow": monitoring.mlflow.enabled,
    }
    for tracker in config.run.report_to or ():
        if switches[tracker] is False:
            yield Problem(
                ("run.report_to", f"monitoring.{tracker}.enabled"),
                f"names {tracker}, but monitoring.{tracker}.enabled is false: change one of them",
            )
