"""What a config asks for and does not get, each with its reason, said before the run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kwanzaa_compute.config.evaluation import READ_OFF_THE_LOSS
from kwanzaa_compute.config.loading import LoadedConfig
from kwanzaa_compute.config.schema import TrainingConfig


@dataclass(frozen=True, slots=True)
class Note:
    """One key that is not applied as written, the line that sets it (None: an option), and why."""

    key: str
    line: int | None
    message: str

    def __str__(self) -> str:
        """One line for a terminal."""
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.key}: {self.message}"


def _always(_: TrainingConfig) -> bool:
    return True


_Asks = Callable[[TrainingConfig], bool]

_OWN_FILE = "not read: the keys of this file count, and every one of them is checked"
_IN_MEMORY = "not applied: the data is prepared once, in memory, so there is nothing to load ahead"
_PREPARED_ONCE = (
    "not applied: the data is prepared in one pass, so that its order never depends on it"
)
_NOT_REPORTED = (
    "not applied: this version reports to TensorBoard, Weights & Biases and the run's folder"
)

_ALL_GPUS = (
    "not applied: the plan weighs machines with any number of GPUs, and all of a machine's train"
)
_NO_ANSWERS = "not applied: no metric that is measured here needs generated answers"


def _not_measured(config: TrainingConfig) -> list[str]:
    """Metrics that are asked for and have nothing to be measured on."""
    measured = {*READ_OFF_THE_LOSS, *config.answer_metrics}
    return [metric for metric in config.evaluation.metrics if metric not in measured]


NOT_APPLIED: Final[Mapping[str, tuple[_Asks, str]]] = {
    "run.dataloader_num_workers": (lambda c: c.run.dataloader_num_workers > 0, _IN_MEMORY),
    "run.dataloader_pin_memory": (lambda c: c.run.dataloader_pin_memory, _IN_MEMORY),
    "run.report_to": (
        lambda c: "mlflow" in (c.run.report_to or ()),
        _NOT_REPORTED,
    ),
    "model.model_config_path": (lambda c: c.model.model_config_path is not None, _OWN_FILE),
    "model.trust_remote_code": (
        lambda c: c.model.trust_remote_code,
        "not applied: remote code is never run; the native class is used, or the run refuses",
    ),
    "model.use_flash_attention": (
        lambda c: c.model.use_flash_attention,
        "not applied: torch's own attention kernels are used, which need no extra build",
    ),
    "model.torch_dtype": (
        lambda c: c.model.torch_dtype != "auto",
        "not applied: run.mixed_precision and what the machine can do decide the number format",
    ),
    "model.device_map": (
        lambda c: c.model.device_map is not None,
        "not applied: the trainer places the model on the machine's GPU itself",
    ),
    "model.low_cpu_mem_usage": (
        lambda c: c.model.low_cpu_mem_usage,
        "not applied: the trainer decides itself how the model is read",
    ),
    "adapter.quantization.bnb_4bit_compute_dtype": (
        lambda c: (
            c.adapter.quantized
            and c.adapter.quantization.bnb_4bit_compute_dtype
            != {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}[c.run.mixed_precision]
        ),
        "not applied: run.mixed_precision and what the machine can do decide the number format",
    ),
    "adapter.adapter_config_path": (lambda c: c.adapter.adapter_config_path is not None, _OWN_FILE),
    "data.num_proc": (lambda c: c.data.num_proc > 1, _PREPARED_ONCE),
    "data.preprocessing_num_workers": (
        lambda c: c.data.preprocessing_num_workers > 1,
        _PREPARED_ONCE,
    ),
    "data.answer_schema_file": (
        lambda c: (
            c.data.answer_schema_file is not None
            and "schema_compliance_rate" not in c.answer_metrics
        ),
        "not applied: evaluation.metrics does not ask for schema_compliance_rate",
    ),
    "evaluation.metrics": (lambda c: bool(_not_measured(c)), ""),
    "evaluation.generation": (lambda c: not c.answer_metrics, _NO_ANSWERS),
    "evaluation.targets": (lambda c: not c.answer_metrics, _NO_ANSWERS),
    "artifacts.versioning": (
        lambda c: c.artifacts.versioning.enabled,
        "not applied: every run has a name of its own, and your git repository is never touched",
    ),
    "publishing.enabled": (
        lambda c: c.publishing.enabled,
        "not applied by itself: kwanzaa publish RUN sends the adapter to publishing.hf_repo",
    ),
    "monitoring.tensorboard.log_dir": (
        lambda c: c.monitoring.tensorboard.log_dir is not None and c.writes_tensorboard,
        "not applied: event files go to the run's own folder, where they survive the machine",
    ),
    "monitoring.mlflow.enabled": (lambda c: c.monitoring.mlflow.enabled is True, _NOT_REPORTED),
    "hardware": (
        _always,
        "not applied: the plan computes what the run needs from the model, the data and the batch",
    ),
    "hardware.distributed_training": (
        lambda c: c.hardware.distributed_training,
        _ALL_GPUS,
    ),
    "hardware.num_gpus": (
        lambda c: c.hardware.num_gpus > 1,
        _ALL_GPUS,
    ),
    "cost_estimate": (
        _always,
        "not read: the plan computes the cost of the run from today's prices",
    ),
}
"""Key -> whether its value asks for anything, and why it is not applied."""


def notes_for(loaded: LoadedConfig) -> tuple[Note, ...]:
    """Every key that is set but not applied as written, and every substitution, by line."""
    found = [
        *_substitution(loaded),
        *_misnamed_base(loaded),
        *_not_applied(loaded),
        *_without_evaluation(loaded),
    ]
    return tuple(sorted(found, key=lambda note: note.line or 0))


def _note(loaded: LoadedConfig, key: str, message: str) -> Note:
    return Note(key, loaded.line_of(key), message)


def _substitution(loaded: LoadedConfig) -> Iterator[Note]:
    model = loaded.config.model
    native = model.native_base_model_id
    if native == model.base_model_id:
        return
    revision = ", in which model.revision is looked up" if model.revision else ""
    message = (
        f"{model.base_model_id} runs only with remote code; {native}, the same weights for"
        f" transformers' own class, is used instead{revision}"
    )
    yield _note(loaded, "model.base_model_id", message)


def _misnamed_base(loaded: LoadedConfig) -> Iterator[Note]:
    model, named = loaded.config.model, loaded.config.artifacts.metadata.base_model_id
    if named in {None, model.base_model_id, model.native_base_model_id}:
        return
    message = f"recorded as written, although the adapter is trained on {model.base_model_id}"
    yield _note(loaded, "artifacts.metadata.base_model_id", message)


def _not_applied(loaded: LoadedConfig) -> Iterator[Note]:
    for key, (asks, reason) in NOT_APPLIED.items():
        if loaded.sets(key) and asks(loaded.config):
            yield _note(loaded, key, reason or _metrics(loaded.config))


def _metrics(config: TrainingConfig) -> str:
    if not config.evaluates:
        why = "nothing is evaluated"
    elif config.data.format == "text_jsonl":
        why = "text_jsonl holds no questions to answer"
    else:
        why = "data.answer_schema_file is not set"
    return f"{', '.join(_not_measured(config))} not measured: {why}"


def _without_evaluation(loaded: LoadedConfig) -> Iterator[Note]:
    """Keys that would need evaluations in a config that has none."""
    config = loaded.config
    if config.evaluates:
        return
    why = "evaluation.strategy is no" if config.data.eval_file else "data.eval_file is not set"
    asked = {
        "training.early_stopping.enabled": config.training.early_stopping.enabled,
        "checkpointing.load_best_model_at_end": config.checkpointing.load_best_model_at_end,
        "evaluation.strategy": config.evaluation.strategy != "no",
        "data.eval_file": config.data.eval_file is not None,
    }
    for key, asks in asked.items():
        if asks and loaded.sets(key):
            yield _note(loaded, key, f"not applied: nothing is evaluated, because {why}")
