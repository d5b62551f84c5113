"""The sections that say how a run is judged and saved: evaluation and checkpointing."""

from typing import Annotated, Final, Literal

from pydantic import Field

from kwanzaa_compute.config.fields import Count, Flag, Real, Section, Whole

Metric = Literal[
    "loss",
    "perplexity",
    "json_valid_rate",
    "schema_compliance_rate",
    "citation_coverage_rate",
    "citation_accuracy_rate",
    "refusal_correctness_rate",
    "retrieval_groundedness_rate",
]

READ_OFF_THE_LOSS: Final = frozenset({"loss", "perplexity"})
"""The metrics that need no generated answers."""

Share = Annotated[Real, Field(ge=0, le=1)]


class GenerationSection(Section):
    """How answers to the evaluation data are generated, once, when training has ended."""

    temperature: Real = Field(default=1.0, ge=0, le=10, description="Sampling temperature.")
    top_p: Real = Field(default=1.0, gt=0, le=1, description="Nucleus sampling: probability kept.")
    top_k: Whole = Field(
        default=50, ge=0, le=1_000_000, description="Most likely tokens kept; 0 is all."
    )
    max_new_tokens: Whole = Field(default=800, ge=1, le=131072, description="Longest answer.")
    do_sample: Flag = Field(
        default=False, description="Sample instead of taking the likeliest token."
    )
    repetition_penalty: Real = Field(
        default=1.0, gt=0, le=10, description="Above 1 discourages repetition."
    )
    batch_size: Whole = Field(
        default=8,
        ge=1,
        le=1024,
        description="Answers generated at a time; less if memory is short.",
    )
    max_samples: Whole | None = Field(
        default=200,
        ge=1,
        le=1_000_000,
        description="Answer only the first so many samples of data.eval_file; null: all.",
    )


class TargetsSection(Section):
    """The share that each metric must reach, from 0 to 1; null sets no target.

    A missed target is told wherever the run's result is; the adapter is delivered all the same.
    """

    json_valid_rate: Share | None = Field(default=0.95, description="Replies that are JSON.")
    schema_compliance_rate: Share | None = Field(
        default=None, description="Replies that follow data.answer_schema_file."
    )
    citation_coverage_rate: Share | None = Field(default=0.85, description="Replies that cite.")
    citation_accuracy_rate: Share | None = Field(
        default=None, description="Citations of a document that was given."
    )
    refusal_correctness_rate: Share | None = Field(
        default=0.80, description="Refusals where, and only where, the sample refuses."
    )
    retrieval_groundedness_rate: Share | None = Field(
        default=None, description="Replies that name the given documents and no others."
    )


class EvaluationSection(Section):
    """When and what to evaluate."""

    strategy: Literal["no", "steps", "epoch"] = Field(
        default="steps", description="Evaluate never, every so many steps, or after each epoch."
    )
    steps: Count = Field(
        default=200, description="Evaluate every so many optimizer steps; same as run.eval_steps."
    )
    metrics: tuple[Metric, ...] = Field(
        default=("loss", "perplexity"), description="Metrics to report."
    )
    generation: GenerationSection = Field(
        default_factory=GenerationSection, description=GenerationSection.__doc__
    )
    targets: TargetsSection = Field(
        default_factory=TargetsSection, description=TargetsSection.__doc__
    )


class CheckpointingSection(Section):
    """When checkpoints are written, how many stay, and what is verified."""

    save_strategy: Literal["no", "steps", "epoch"] = Field(
        default="steps", description="Save never, every so many steps, or after each epoch."
    )
    save_steps: Count = Field(
        default=200,
        description="Save a checkpoint every so many optimizer steps; same as run.save_steps.",
    )
    save_seconds: Whole | None = Field(
        default=600,
        ge=1,
        le=7 * 24 * 3600,
        description="Save also when so many seconds have passed since the last; null: never.",
    )
    save_total_limit: Whole = Field(
        default=3,
        ge=1,
        le=1000,
        description="How many checkpoints are kept; same as run.save_total_limit.",
    )
    load_best_model_at_end: Flag = Field(
        default=True, description="Hand over the best evaluated adapter instead of the last one."
    )
    metric_for_best_model: Literal["eval_loss", "loss", "eval_perplexity", "perplexity"] = Field(
        default="eval_loss", description="What the best checkpoint is chosen by."
    )
    greater_is_better: Literal[False] = Field(
        default=False, description="Always false: loss and perplexity are better when smaller."
    )
    verify_base_weights_unchanged: Flag = Field(
        default=True, description="Prove by a hash that training left the base model alone."
    )
    generate_checksums: Flag = Field(default=True, description="Write the SHA-256 of every file.")
