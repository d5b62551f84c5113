"""The sections that say how to train: run, model, adapter, data, training."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from kwanzaa_compute.config.fields import (
    Count,
    FilePath,
    Flag,
    Line,
    Real,
    RunName,
    Section,
    Whole,
    given,
)
from kwanzaa_compute.config.native import native_base_model_id

AtOnce = Annotated[Whole, Field(ge=1, le=64)]

Tracker = Literal["tensorboard", "wandb", "mlflow"]

DEFAULT_TARGET_MODULES = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)


def _trackers(value: object) -> object:
    """`report_to: tensorboard` and `report_to: none` mean what they say."""
    if isinstance(value, str):
        return () if value == "none" else (value,)
    return value


def _fill_accumulation(section: object) -> object:
    """Work the accumulation out where only the effective batch size is given."""
    if not isinstance(section, dict) or given(section, "gradient_accumulation_steps"):
        return section
    effective = section.get("effective_batch_size")
    per_device = section.get("per_device_train_batch_size", 1)
    if type(effective) is not int or type(per_device) is not int:
        return section
    if per_device < 1 or effective < per_device or effective % per_device:
        return section
    return {**section, "gradient_accumulation_steps": effective // per_device}


_TRACKER_NAMES = ["tensorboard", "wandb", "mlflow"]

Trackers = Annotated[
    tuple[Tracker, ...],
    BeforeValidator(_trackers),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [*_TRACKER_NAMES, "none"]},
                {"type": "array", "items": {"enum": _TRACKER_NAMES}},
            ]
        }
    ),
]


class RunSection(Section):
    """What the run is called, its seed, precision and rhythm."""

    name: RunName = Field(
        default="kwanzaa-adapter", description="Name of the run and of its folder."
    )
    output_dir: FilePath | None = Field(
        default=None, description="Folder for the adapter; default outputs/<run name>."
    )
    seed: Whole = Field(default=42, ge=0, le=2**32 - 1, description="Seed of everything random.")
    mixed_precision: Literal["bf16", "fp16", "no"] = Field(
        default="bf16",
        description="Number format of the computation; a machine without bf16 falls back to fp16.",
    )
    logging_steps: Count = Field(
        default=10, description="Log the loss every so many optimizer steps."
    )
    save_steps: Count = Field(
        default=200,
        description="Save a checkpoint every so many steps; same as checkpointing.save_steps.",
    )
    eval_steps: Count = Field(
        default=200, description="Evaluate every so many optimizer steps; same as evaluation.steps."
    )
    save_total_limit: Whole = Field(
        default=3,
        ge=1,
        le=1000,
        description="How many checkpoints are kept; same as checkpointing.save_total_limit.",
    )
    report_to: Trackers | None = Field(
        default=None,
        description="Trackers to write to: tensorboard, wandb, mlflow.",
        json_schema_extra={"default": ["tensorboard"]},
    )
    deterministic: Flag = Field(
        default=True,
        description="Ask for bit-identical results from one seed, where the machine can.",
    )
    dataloader_num_workers: Whole = Field(
        default=0, ge=0, le=256, description="Loader processes (not applied: see the notes)."
    )
    dataloader_pin_memory: Flag = Field(
        default=False, description="Pinned loader memory (not applied: see the notes)."
    )


class ModelSection(Section):
    """The frozen base model that the adapter is trained on."""

    base_model_id: Line = Field(
        description="Repository on the Hugging Face Hub, or a local folder, of the base model."
    )
    revision: Line | None = Field(
        default=None, description="Branch, tag or commit of the base model's repository."
    )
    model_config_path: FilePath | None = Field(
        default=None, description="Path of another config file (not read: this file's keys count)."
    )
    trust_remote_code: Flag = Field(
        default=False, description="Accepted for compatibility; remote code is never run."
    )
    use_flash_attention: Flag = Field(
        default=False, description="Accepted; torch's own attention kernels are used."
    )
    torch_dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Accepted; the base is loaded in run.mixed_precision's format."
    )
    device_map: Line | None = Field(
        default=None, description="Accepted; the trainer places the model itself."
    )
    low_cpu_mem_usage: Flag = Field(
        default=False, description="Accepted; the trainer loads the model itself."
    )

    @property
    def native_base_model_id(self) -> str:
        """The repository that is really loaded; see `kwanzaa_compute.config.native`."""
        return native_base_model_id(self.base_model_id)


class LoraSection(Section):
    """Shape of the low-rank adapter."""

    r: Whole = Field(default=16, ge=1, le=1024, description="Rank of the adapter's matrices.")
    alpha: Real = Field(
        default=32, gt=0, le=65536, description="Scale: the update is alpha / r times BA."
    )
    dropout: Real = Field(default=0.05, ge=0, lt=1, description="Share of adapter inputs dropped.")
    bias: Literal["none", "all", "lora_only"] = Field(
        default="none", description="Which biases are trained beside the adapter."
    )
    task_type: Literal["CAUSAL_LM"] = Field(
        default="CAUSAL_LM",
        description="What the model does; causal language models are supported.",
    )
    target_modules: tuple[Line, ...] | Literal["all-linear"] = Field(
        default=DEFAULT_TARGET_MODULES,
        min_length=1,
        description="Names of the linear layers that get an adapter, or all-linear.",
    )


class QuantizationSection(Section):
    """How the frozen base is stored while a QLoRA adapter trains."""

    load_in_4bit: Flag | None = Field(
        default=None, description="Store the base in 4 bits; default: yes for qlora, no for lora."
    )
    bnb_4bit_compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        default="bfloat16", description="Number format that 4-bit weights are multiplied in."
    )
    bnb_4bit_use_double_quant: Flag = Field(
        default=True, description="Quantise the quantisation constants as well."
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field(
        default="nf4", description="The 4-bit number type."
    )


class AdapterSection(Section):
    """What is trained: LoRA on a 4-bit base (qlora) or on a 16-bit base (lora)."""

    method: Literal["qlora", "lora"] = Field(
        default="qlora", description="qlora: adapter on a 4-bit base; lora: on an unquantised one."
    )
    adapter_config_path: FilePath | None = Field(
        default=None, description="Path of another config file (not read: this file's keys count)."
    )
    lora: LoraSection = Field(default_factory=LoraSection, description=LoraSection.__doc__)
    quantization: QuantizationSection = Field(
        default_factory=QuantizationSection, description=QuantizationSection.__doc__
    )

    @property
    def quantized(self) -> bool:
        """Whether the frozen base is stored in 4 bits."""
        return self.method == "qlora"


class DataSection(Section):
    """What to train on, and how text becomes rows of tokens."""

    train_file: FilePath = Field(
        description="Training data (JSONL), relative to this file or to the current folder."
    )
    eval_file: FilePath | None = Field(
        default=None, description="Evaluation data (JSONL); without it nothing is evaluated."
    )
    format: Literal["chat_jsonl", "prompt_completion_jsonl", "text_jsonl"] = Field(
        default="chat_jsonl", description="What each line of the data files holds."
    )
    max_seq_length: Whole = Field(
        default=2048, ge=16, le=131072, description="Tokens in one row; longer samples are skipped."
    )
    packing: Flag = Field(default=True, description="Pack several short samples into one row.")
    num_proc: Whole = Field(
        default=1, ge=1, le=256, description="Preparation processes (not applied: see the notes)."
    )
    preprocessing_num_workers: Whole = Field(
        default=1, ge=1, le=256, description="Preparation processes (not applied: see the notes)."
    )
    system_prompt: Annotated[str, Field(max_length=100_000)] | None = Field(
        default=None, description="System message for chats that have none of their own."
    )
    answer_schema_file: FilePath | None = Field(
        default=None, description="JSON Schema that generated answers are held against."
    )


class GradientCheckpointingSection(Section):
    """How activations are recomputed."""

    use_reentrant: Flag = Field(
        default=False, description="Use torch's older, reentrant implementation."
    )


class EarlyStoppingSection(Section):
    """When to stop because nothing improves any more."""

    enabled: Flag = Field(default=False, description="Stop early.")
    patience: Count = Field(
        default=3, description="Evaluations without improvement before stopping."
    )
    threshold: Real = Field(
        default=0.0, ge=0, le=1000, description="What counts as an improvement."
    )


class TrainingSection(Section):
    """Hyperparameters: length, learning rate, batch, optimizer, memory."""

    num_train_epochs: Real = Field(
        default=3, gt=0, le=10_000, description="Passes over the data; a fraction is allowed."
    )
    max_steps: Count | None = Field(
        default=None, description="Stop after so many optimizer steps, whatever the epochs say."
    )
    learning_rate: Real = Field(default=2e-4, gt=0, lt=1, description="Highest learning rate.")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        default="cosine", description="How the learning rate falls after the warm-up."
    )
    warmup_ratio: Real = Field(
        default=0.03, ge=0, lt=1, description="Share of all steps for warming up."
    )
    weight_decay: Real = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay.")
    max_grad_norm: Real = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Gradients are clipped to this norm; 0 switches it off.",
    )
    per_device_train_batch_size: Whole = Field(
        default=1, ge=1, le=4096, description="Rows in one training micro-batch."
    )
    per_device_eval_batch_size: Whole = Field(
        default=1, ge=1, le=4096, description="Rows in one evaluation batch."
    )
    gradient_accumulation_steps: Whole = Field(
        default=16, ge=1, le=65536, description="Micro-batches in one optimizer step."
    )
    effective_batch_size: Count | None = Field(
        default=None, description="Rows in one optimizer step: micro-batch times accumulation."
    )
    optim: Literal[
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
    ] = Field(default="paged_adamw_8bit", description="The optimizer.")
    adam_beta1: Real = Field(default=0.9, ge=0, lt=1, description="Decay of the first moment.")
    adam_beta2: Real = Field(default=0.999, ge=0, lt=1, description="Decay of the second moment.")
    adam_epsilon: Real = Field(default=1e-8, gt=0, lt=1, description="Keeps divisions finite.")
    tf32: Flag = Field(
        default=False, description="Allow TF32 tensor cores for what stays in 32 bits."
    )
    gradient_checkpointing: Flag = Field(
        default=True, description="Recompute activations instead of storing them."
    )
    gradient_checkpointing_kwargs: GradientCheckpointingSection = Field(
        default_factory=GradientCheckpointingSection,
        description=GradientCheckpointingSection.__doc__,
    )
    fast_path: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Fused kernels: where they apply on a GPU, always or an error, or never.",
    )
    memory_plan: Literal["auto", "as_written"] = Field(
        default="auto",
        description="On a GPU: let free memory decide base precision, recomputation and rows"
        " at a time, tokens a step being kept; or take what is written here.",
    )
    adapters_at_once: Literal["auto"] | AtOnce = Field(
        default="auto",
        description="In a sweep, how many adapters of one base a GPU trains at once: as many as"
        " fit beside one another, or so many at most; 1 for one after the other.",
    )
    shard_base: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="On several GPUs: spread the base over them where none holds it alone,"
        " always, or never.",
    )
    early_stopping: EarlyStoppingSection = Field(
        default_factory=EarlyStoppingSection, description=EarlyStoppingSection.__doc__
    )

    _accumulation = model_validator(mode="before")(_fill_accumulation)

    @property
    def rows_per_step(self) -> int:
        """Rows in one optimizer step: micro-batch times accumulation."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps
