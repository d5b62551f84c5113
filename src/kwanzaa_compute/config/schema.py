"""`TrainingConfig`: the validated training.yaml, attribute for key."""

import hashlib
import json
from typing import Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kwanzaa_compute.config.consistency import conflicts, with_twins_filled
from kwanzaa_compute.config.evaluation import (
    READ_OFF_THE_LOSS,
    CheckpointingSection,
    EvaluationSection,
)
from kwanzaa_compute.config.fields import Section
from kwanzaa_compute.config.outcome import (
    ArtifactsSection,
    ComputeSection,
    CostEstimateSection,
    HardwareSection,
    MonitoringSection,
    PublishingSection,
)
from kwanzaa_compute.config.problems import describe
from kwanzaa_compute.config.recipe import (
    AdapterSection,
    DataSection,
    ModelSection,
    RunSection,
    TrainingSection,
)
from kwanzaa_compute.errors import ConfigError

_SEND_AGAIN = "send the config again with the command that started the run"


class TrainingConfig(Section):
    """Everything that a training.yaml says, validated, with the defaults filled in.

    Attributes are named like the keys. Where one option has two keys, both hold the same value,
    whichever was written. Instances are immutable; build them with `load_config`, `from_json`
    or from keyword arguments.
    """

    model_config = ConfigDict(title="kwanzaa-compute training.yaml")

    run: RunSection = Field(default_factory=RunSection, description=RunSection.__doc__)
    model: ModelSection = Field(description=ModelSection.__doc__)
    adapter: AdapterSection = Field(
        default_factory=AdapterSection, description=AdapterSection.__doc__
    )
    data: DataSection = Field(description=DataSection.__doc__)
    training: TrainingSection = Field(
        default_factory=TrainingSection, description=TrainingSection.__doc__
    )
    evaluation: EvaluationSection = Field(
        default_factory=EvaluationSection, description=EvaluationSection.__doc__
    )
    checkpointing: CheckpointingSection = Field(
        default_factory=CheckpointingSection, description=CheckpointingSection.__doc__
    )
    artifacts: ArtifactsSection = Field(
        default_factory=ArtifactsSection, description=ArtifactsSection.__doc__
    )
    publishing: PublishingSection = Field(
        default_factory=PublishingSection, description=PublishingSection.__doc__
    )
    monitoring: MonitoringSection = Field(
        default_factory=MonitoringSection, description=MonitoringSection.__doc__
    )
    hardware: HardwareSection = Field(
        default_factory=HardwareSection, description=HardwareSection.__doc__
    )
    cost_estimate: CostEstimateSection = Field(
        default_factory=CostEstimateSection, description=CostEstimateSection.__doc__
    )
    compute: ComputeSection = Field(
        default_factory=ComputeSection, description=ComputeSection.__doc__
    )

    _twins = model_validator(mode="before")(with_twins_filled)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = tuple(conflicts(self))
        if problems:
            text = "; ".join(f"{problem.keys[0]} {problem.message}" for problem in problems)
            context = {"text": text, "problems": problems}
            raise PydanticCustomError("conflict", "{text}", context)
        return self

    @property
    def save_steps(self) -> int:
        """A checkpoint every so many optimizer steps."""
        return self.checkpointing.save_steps

    @property
    def eval_steps(self) -> int:
        """An evaluation every so many optimizer steps."""
        return self.evaluation.steps

    @property
    def save_total_limit(self) -> int:
        """How many checkpoints are kept."""
        return self.checkpointing.save_total_limit

    @property
    def output_dir(self) -> str:
        """The folder that the finished adapter comes down to."""
        return self.artifacts.output_dir or f"outputs/{self.run.name}"

    @property
    def evaluates(self) -> bool:
        """Whether anything is evaluated: there is a file for it and a strategy other than no."""
        return self.data.eval_file is not None and self.evaluation.strategy != "no"

    @property
    def answer_metrics(self) -> tuple[str, ...]:
        """The metrics to measure on generated answers; none where nothing can be asked."""
        if not self.evaluates or self.data.format == "text_jsonl":
            return ()
        wanted = dict.fromkeys(self.evaluation.metrics)
        return tuple(
            metric
            for metric in wanted
            if metric not in READ_OFF_THE_LOSS
            and (metric != "schema_compliance_rate" or self.data.answer_schema_file is not None)
        )

    @property
    def writes_tensorboard(self) -> bool:
        """Whether TensorBoard event files are written."""
        enabled = self.monitoring.tensorboard.enabled
        if enabled is not None:
            return enabled
        return self.run.report_to is None or "tensorboard" in self.run.report_to

    @property
    def writes_wandb(self) -> bool:
        """Whether curves go to Weights & Biases, or to files for it."""
        enabled = self.monitoring.wandb.enabled
        return "wandb" in (self.run.report_to or ()) if enabled is None else enabled

    @property
    def config_hash(self) -> str:
        """SHA-256 (hex) of `to_json()`: equal for configs that mean the same."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Canonical JSON: every key, sorted, amounts of money as strings, UTF-8, no spaces."""
        values = self.model_dump(mode="json")
        text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return text.encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The config that `to_json` wrote; `ConfigError` if it was anything else."""
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            message = "; ".join(finding.text for finding in describe(error))
            raise ConfigError(f"stored config: {message}", mend=_SEND_AGAIN) from None
        except (ValueError, RecursionError):
            raise ConfigError("stored config: is not JSON", mend=_SEND_AGAIN) from None


def json_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a training.yaml, for editors and other tools."""
    schema = TrainingConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
