"""The sections beside the recipe: artifacts, publishing, monitoring, hardware, cost, compute."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kwanzaa_compute.config.fields import (
    ArtifactName,
    FilePath,
    Flag,
    Hours,
    Label,
    Line,
    ProviderNames,
    Real,
    Section,
    Usd,
    Whole,
)


class VersioningSection(Section):
    """How artifacts would be numbered (not applied)."""

    enabled: Flag = Field(default=False, description="Number the artifacts.")
    version_format: Line = Field(
        default="v{major}.{minor}.{patch}", description="Pattern of a version."
    )
    auto_increment: Flag = Field(default=False, description="Raise the version by itself.")
    git_tag: Flag = Field(default=False, description="Tag the git repository (never done).")


class ArtifactMetadataSection(Section):
    """What is recorded beside the adapter; other labels of yours are kept as they are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Label] = Field(init=False)

    base_model_id: Line | None = Field(
        default=None, description="Base model to name in the artifact."
    )
    dataset_version: Line | None = Field(default=None, description="Your version of the data.")
    task: Line | None = Field(default=None, description="What the adapter is for.")
    training_date: Line = Field(
        default="auto", description="Date of training; auto: the day it ran."
    )
    author: Line | None = Field(default=None, description="Who trained it.")


class ArtifactsSection(Section):
    """What is delivered, and where."""

    output_dir: FilePath | None = Field(
        default=None, description="Folder for the adapter; same as run.output_dir."
    )
    versioning: VersioningSection = Field(
        default_factory=VersioningSection, description=VersioningSection.__doc__
    )
    metadata: ArtifactMetadataSection = Field(
        default_factory=ArtifactMetadataSection, description=ArtifactMetadataSection.__doc__
    )
    include_files: tuple[ArtifactName, ...] = Field(
        default=(
            "adapter_config.json",
            "adapter_model.safetensors",
            "training_config.yaml",
            "training_metrics.json",
            "checksums.json",
            "README.md",
        ),
        description="Files that the finished artifact must hold.",
    )


class PublishingMetadataSection(Section):
    """What the model card would say; other keys of a model card are kept as they are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Label] = Field(init=False)

    base_model: Line | None = Field(default=None, description="Base model to name on the card.")
    task: Line | None = Field(default=None, description="What the adapter is for.")
    language: Line | tuple[Line, ...] | None = Field(default=None, description="Language codes.")
    license: Line | None = Field(default=None, description="Licence of the adapter.")
    tags: tuple[Line, ...] = Field(default=(), description="Tags on the Hub.")


class PublishingSection(Section):
    """Upload to the Hugging Face Hub after training."""

    enabled: Flag = Field(default=False, description="Publish after training.")
    hf_repo: Line | None = Field(default=None, description="Repository to publish to.")
    private: Flag = Field(default=True, description="Keep the repository private.")
    metadata: PublishingMetadataSection = Field(
        default_factory=PublishingMetadataSection, description=PublishingMetadataSection.__doc__
    )


class TensorboardSection(Section):
    """TensorBoard event files."""

    enabled: Flag | None = Field(
        default=None,
        description="Write event files; default: yes, unless run.report_to leaves it out.",
    )
    log_dir: FilePath | None = Field(
        default=None, description="Accepted; event files go to the run's own folder."
    )


class WandbSection(Section):
    """Weights & Biases: files for `wandb sync`, or its server where the machine has a key."""

    enabled: Flag | None = Field(
        default=None,
        description="Report to Weights & Biases; default: where run.report_to names it. Online only"
        " with $KWANZAA_WANDB_API_KEY, which is then handed to the machine.",
    )
    project: Line | None = Field(default=None, description="Project there; default: kwanzaa.")
    entity: Line | None = Field(default=None, description="User or team there.")
    name: Line | None = Field(
        default=None, description="Name of the run there; default: the run's own."
    )


class MlflowSection(Section):
    """MLflow (not applied)."""

    enabled: Flag | None = Field(default=None, description="Report to MLflow.")
    tracking_uri: Line | None = Field(default=None, description="Address of the MLflow server.")
    experiment_name: Line | None = Field(default=None, description="Experiment there.")


class MonitoringSection(Section):
    """Where progress is reported."""

    tensorboard: TensorboardSection = Field(
        default_factory=TensorboardSection, description=TensorboardSection.__doc__
    )
    wandb: WandbSection = Field(default_factory=WandbSection, description=WandbSection.__doc__)
    mlflow: MlflowSection = Field(default_factory=MlflowSection, description=MlflowSection.__doc__)
    notify_on: tuple[Literal["finish", "failure", "stall", "cap"], ...] = Field(
        default=("finish", "failure", "stall", "cap"),
        description="What is told through $KWANZAA_WEBHOOK_URL and $KWANZAA_NOTIFY_COMMAND. A"
        " machine that may still be billing is told in any case.",
    )


class HardwareSection(Section):
    """Somebody's estimate of the machine (not applied: the plan computes its own)."""

    minimum_vram_gb: Real | None = Field(
        default=None, gt=0, le=10_000, description="Least GPU memory."
    )
    recommended_vram_gb: Real | None = Field(
        default=None, gt=0, le=10_000, description="Comfortable GPU memory."
    )
    recommended_gpu: Line | None = Field(default=None, description="GPUs that would do.")
    distributed_training: Flag = Field(default=False, description="Train on several GPUs.")
    num_gpus: Whole = Field(default=1, ge=1, le=1024, description="How many GPUs.")


class CostEstimateSection(Section):
    """Somebody's estimate of the bill (not applied: the plan computes it from prices)."""

    training_hours: Real | None = Field(
        default=None, ge=0, le=100_000, description="Hours of training."
    )
    cost_per_hour_a100: Real | None = Field(
        default=None, ge=0, le=100_000, description="Price of an A100 for an hour."
    )
    estimated_total_cost: Real | None = Field(
        default=None, ge=0, le=100_000_000, description="Price of the run."
    )
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = Field(
        default="USD", description="Currency of these amounts."
    )


class ComputeSection(Section):
    """Where the run may happen and what it may cost; the command line's options win."""

    provider: ProviderNames | None = Field(
        default=None, description="Provider, or a list of providers, to choose from; default: all."
    )
    max_usd: Usd | None = Field(
        default=None, description="Cap on what the whole run may cost, in USD."
    )
    max_hours: Hours | None = Field(
        default=None, description="Longest time that a machine may bill."
    )
    deadline_hours: Hours | None = Field(
        default=None, description="The run must be finished so many hours from its start."
    )
    gpu: Line | None = Field(default=None, description="Only this GPU, for example A100-80GB.")
    spot: Flag | None = Field(
        default=None,
        description="true: only spot machines; false: only on-demand ones; default: both.",
    )
    store: Line | None = Field(
        default=None,
        description="URL of the storage for runs: file://, s3://, gs://, az:// or hf://.",
    )
    buffer_fraction: Real = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Added to every estimate for the unforeseen; 0.1 is 10 %.",
    )
