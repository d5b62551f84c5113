"""What of a training.yaml decides memory and speed, and the ways through the model.

Import-light on purpose: the trainer plans its memory with it on the GPU machine.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.shapes import QUANTISABLE

if TYPE_CHECKING:
    from kwanzaa_compute.config import TrainingConfig

NF4_BYTES_PER_PARAM = 0.5
NF4_BLOCK = 64
"""Parameters that share one quantisation constant."""
DOUBLE_QUANT_BLOCK = 256
"""Constants that share one constant of their own, with double quantisation."""


@dataclass(frozen=True, slots=True)
class CodePath:
    """One way through the model, with what it costs; every figure is calibrated on an H200.

    `activation_factor` multiplies the activations that a block must keep, counted in the block's
    own widths. `logit_bytes` is kept for each logit of the micro-batch, `logit_chunk_tokens`
    instead of it where the loss is computed in chunks. `traffic_factor` is memory traffic
    of everything that is no matrix product, in the same unit as the activations.
    `launch_ms_per_layer` is the host's work for one block of one micro-batch, with and without
    gradient checkpointing. `float32_head` says that embedding and head are held in 32 bits.
    `unpacking` is the share of data-sheet bandwidth that unpacking of NF4 reaches: bitsandbytes'
    own 1.76 of an H200's 4.8 TB/s.
    """

    name: str
    activation_factor: float
    logit_bytes: float
    logit_chunk_tokens: int
    traffic_factor: float
    launch_ms_per_layer: tuple[float, float]
    float32_head: bool = False
    unpacking: float = 0.37


NAIVE = CodePath("naive", 2.40, 10.0, 0, 92.0, (13.3, 7.6), float32_head=True)
"""Stock transformers, peft and `prepare_model_for_kbit_training`, as most tutorials have it."""

REFERENCE = CodePath("reference", 1.97, 10.0, 0, 76.0, (11.8, 7.0))
"""Stock transformers and peft, head in 16 bits, LoRA in 32 bits under autocast: our first path."""

CHUNKED_LOSS = CodePath("chunked loss", 1.97, 6.0, 0, 71.0, (12.0, 8.8))
"""The reference path with a fused linear cross-entropy in place of full logits."""

FUSED = CodePath("fused", 1.0, 8.0, 1024, 12.0, (9.8, 5.5))
"""LoRA with its own autograd, chunked loss, fused norms; launched kernel by kernel."""

FUSED_GRAPH = CodePath("fused, CUDA graph", 1.0, 8.0, 1024, 12.0, (0.0, 0.0))
"""The same, with forward and backward captured once and replayed: as a prototype had it."""

FAST = CodePath("fast", 1.0, 8.0, 1024, 17.0, (0.0, 0.0), unpacking=0.93)
"""The trainer's own fast path, from the raw rows in docs/benchmarks: unpacking has a kernel of its
own, and the traffic is what is left of a micro-batch's time beside products and unpacking."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one run trains: everything that memory and speed depend on beside the model.

    `compute` is "bf16", "fp16" or "fp32". `rows_per_micro_batch` rows of `row_tokens` tokens go
    through the model at once, `accumulation` times for one optimizer step. With `checkpointing`,
    every `recompute_every`-th block is computed again on the way back. `plans_memory` says that
    the trainer stands on the fastest rung of the ladder that fits, `may_be_fast` that it takes
    the fast path where there is one: `sizing.recipe_on` says what that comes to on a card.
    `repeatable` says that two runs must agree to the bit; what that costs on a GPU has been
    measured on the fast path only.
    On `pieces` cards the blocks' weights are spread, each holding its share of every block;
    `sharding` says when: "auto" where they fit no other way, "always" or "never".
    """

    row_tokens: int = 2048
    rows_per_micro_batch: int = 1
    accumulation: int = 16
    eval_rows_per_batch: int = 1
    quantised: bool = True
    double_quant: bool = True
    compute: str = "bf16"
    checkpointing: bool = True
    recompute_every: int = 1
    lora_rank: int = 16
    lora_modules: tuple[str, ...] | str = QUANTISABLE
    adapters: int = 1
    """Adapters that learn at once, over whose rows a micro-batch is shared out."""
    rows_shared_by: int = 1
    """Adapters that share out a rung's rows at a time; each is priced with its own alone."""
    optimizer: str = "paged_adamw_8bit"
    checkpoints_kept: int = 3
    path: CodePath = REFERENCE
    plans_memory: bool = False
    may_be_fast: bool = False
    repeatable: bool = False
    sharding: str = "auto"
    pieces: int = 1

    def shared_by(self, cards: int) -> "Recipe":
        """One of so many cards' part of every step: the most rows that any of them has."""
        rows = -(-self.rows_per_micro_batch * self.accumulation // cards)
        at_once = min(rows, self.rows_per_micro_batch)
        return replace(self, rows_per_micro_batch=at_once, accumulation=-(-rows // at_once))

    def evenness(self, cards: int) -> float:
        """The share of so many cards' time in which none waits for one that has more rows."""
        rows = self.rows_per_micro_batch * self.accumulation
        return rows / (cards * -(-rows // cards))

    @property
    def tokens_per_micro_batch(self) -> int:
        """Tokens that go through the model at once."""
        return self.row_tokens * self.rows_per_micro_batch

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step on one GPU."""
        return self.tokens_per_micro_batch * self.accumulation

    @property
    def recomputed_share(self) -> float:
        """The share of blocks that are computed twice, between 0 and 1."""
        return 1 / self.recompute_every if self.checkpointing else 0.0

    @property
    def linear_bytes_per_param(self) -> float:
        """Bytes that a parameter of a block's linear layer takes, quantisation constants too."""
        if not self.quantised:
            return self.compute_bytes
        if self.double_quant:
            constants = 1 / NF4_BLOCK + 4 / (NF4_BLOCK * DOUBLE_QUANT_BLOCK)
        else:
            constants = 4 / NF4_BLOCK
        return NF4_BYTES_PER_PARAM + constants

    @property
    def compute_bytes(self) -> int:
        """Bytes of one number that is computed with."""
        return 4 if self.compute == "fp32" else 2


def recipe_from_config(config: "TrainingConfig", path: CodePath = REFERENCE) -> Recipe:
    """The recipe that a validated training.yaml asks for, on that way through the model."""
    training, data, adapter = config.training, config.data, config.adapter
    return Recipe(
        row_tokens=data.max_seq_length,
        rows_per_micro_batch=training.per_device_train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        eval_rows_per_batch=training.per_device_eval_batch_size,
        quantised=adapter.quantized,
        double_quant=adapter.quantization.bnb_4bit_use_double_quant,
        compute={"no": "fp32"}.get(config.run.mixed_precision, config.run.mixed_precision),
        checkpointing=training.gradient_checkpointing,
        lora_rank=adapter.lora.r,
        lora_modules=adapter.lora.target_modules,
        optimizer=training.optim,
        checkpoints_kept=config.checkpointing.save_total_limit,
        path=path,
        plans_memory=training.memory_plan == "auto",
        may_be_fast=training.fast_path != "never",
        repeatable=config.run.deterministic,
        sharding=training.shard_base,
    )


def compute_on(recipe: Recipe, gpu: GPU) -> str:
    """The number format that the trainer takes on this GPU: bf16, else fp16, fp32 on a CPU."""
    if gpu.is_cpu:
        return "fp32"
    if recipe.compute == "bf16" and not gpu.bf16:
        return "fp16"
    return recipe.compute
