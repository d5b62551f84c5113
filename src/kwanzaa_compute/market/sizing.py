"""How much GPU memory and disk a run needs, line by line, and the ladder for when it is short.

Import-light on purpose: the trainer plans its memory with it on the GPU machine. Calibrated
against peaks measured on an H200 with OLMo-7B; the unit tests hold the predictions against them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.recipe import FAST, CodePath, Recipe, compute_on
from kwanzaa_compute.market.shapes import (
    ModelShape,
    find_shape,
    known_models,
    shape_from_config_json,
)

__all__ = [
    "LADDER",
    "ModelShape",
    "Rung",
    "Sizing",
    "SizingLine",
    "disk_needed",
    "find_shape",
    "known_models",
    "ladder",
    "least_memory",
    "memory_needed",
    "recipe_on",
    "rungs_that_fit",
    "shape_from_config_json",
]

GIB = 1024**3

_OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "paged_adamw_32bit": 8.0,
    "adamw_8bit": 2.0 + 2 * 4 / 256,
    "paged_adamw_8bit": 2.0 + 2 * 4 / 256,
}
"""Bytes of state for one trained parameter; 8-bit states share a constant in blocks of 256."""

CUDA_CONTEXT_GIB = 0.5
"""What the driver, cuBLAS and the kernels take before the first tensor (0.4 to 0.6 seen)."""
GATHERED_BLOCKS = 3
"""Blocks of a base in pieces that are whole at a time: one at work, one on its way in, and what
the pieces of one are gathered into before they are laid out."""
CPU_PROCESS_GIB = 0.8
"""What a Python process with torch and transformers takes before the first tensor."""
FRAGMENTATION_SHARE = 0.09
FRAGMENTATION_GIB = 0.75
"""Reserved beyond allocated, as measured: 0.4 to 1.5 GiB with recomputation, 2.4 without."""

LIBRARIES_GIB = 7.0
"""torch with its CUDA libraries, transformers, peft and bitsandbytes, unpacked."""
SCRATCH_GIB = 4.0
"""Logs, the data, its tokens, and room that must not run out."""


@dataclass(frozen=True, slots=True)
class SizingLine:
    """One part of what is needed, with how it was worked out."""

    what: str
    gib: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a run needs of memory, or of disk, with every part of it."""

    lines: tuple[SizingLine, ...]

    @property
    def total_gib(self) -> float:
        """All parts together, in GiB."""
        return sum(line.gib for line in self.lines)

    def gib(self, what: str) -> float:
        """The part of that name; 0 where there is none."""
        return sum(line.gib for line in self.lines if line.what == what)

    @property
    def allocated_gib(self) -> float:
        """What torch reports as its peak: everything but the context and fragmentation."""
        return self.total_gib - self.gib("context") - self.gib("fragmentation")


@lru_cache(maxsize=512)
def memory_needed(shape: ModelShape, recipe: Recipe, *, on_gpu: bool = True) -> Sizing:
    """The peak memory of training `shape` by `recipe` on one GPU, line by line.

    Set `on_gpu` to False for a machine without one: there is no CUDA context, and everything is
    computed in 32 bits.
    """
    if not on_gpu:
        recipe = replace(recipe, compute="fp32")
    fixed = (*_weights(shape, recipe), *_adapter(shape, recipe))
    moving = (*_activations(shape, recipe), *_loss(shape, recipe), _workspace(shape, recipe))
    moving_gib = sum(line.gib for line in moving)
    slack = min(FRAGMENTATION_GIB, moving_gib) + FRAGMENTATION_SHARE * moving_gib
    context = CUDA_CONTEXT_GIB if on_gpu else CPU_PROCESS_GIB
    return Sizing(
        (
            *fixed,
            *moving,
            SizingLine("fragmentation", slack, "reserved beyond allocated, as measured"),
            SizingLine("context", context, "driver and libraries" if on_gpu else "process"),
        )
    )


def _weights(shape: ModelShape, recipe: Recipe) -> Iterator[SizingLine]:
    width = recipe.linear_bytes_per_param
    kind = "NF4" if recipe.quantised else recipe.compute
    words = f"{shape.linear_params / 1e9:.3f} billion at {width * 8:.2f} bits ({kind})"
    base_gib = shape.linear_params * width / GIB
    if recipe.pieces == 1:
        yield SizingLine("base weights", base_gib, words)
    else:
        share = base_gib / recipe.pieces
        yield SizingLine("base weights", share, f"{words}, a {recipe.pieces}th of each block")
        block = GATHERED_BLOCKS * base_gib / shape.layers
        yield SizingLine("gathered", block, f"{GATHERED_BLOCKS} blocks in whole at a time")
    head_bytes = 4 if recipe.path.float32_head else recipe.compute_bytes
    yield SizingLine(
        "embedding and head",
        shape.unquantised_params * head_bytes / GIB,
        f"{shape.unquantised_params / 1e9:.3f} billion at {head_bytes * 8} bits, never quantised",
    )


def _adapter(shape: ModelShape, recipe: Recipe) -> Iterator[SizingLine]:
    trained = shape.lora_params(recipe.lora_rank, recipe.lora_modules) * recipe.adapters
    state = _OPTIMIZER_BYTES.get(recipe.optimizer, 8.0)
    yield SizingLine("adapter", trained * 4 / GIB, f"{trained:,} parameters at 32 bits")
    if recipe.adapters > 1:
        copies = trained * recipe.compute_bytes / GIB
        yield SizingLine("copies", copies, f"of {recipe.adapters} adapters, to compute with")
    yield SizingLine("gradients", trained * 4 / GIB, "32 bits each")
    yield SizingLine(
        "optimizer", trained * state / GIB, f"{recipe.optimizer}: {state:.2f} bytes each"
    )


def kept_per_token(shape: ModelShape, recipe: Recipe) -> float:
    """Bytes that one block keeps of one token for its backward pass, on the fused path."""
    widths = (
        4 * shape.hidden
        + 2 * shape.q_dim
        + 2 * shape.kv_dim
        + 2 * shape.intermediate * shape.active_experts
    )
    return float(widths * recipe.compute_bytes)


def _activations(shape: ModelShape, recipe: Recipe) -> Iterator[SizingLine]:
    tokens = recipe.tokens_per_micro_batch
    block = kept_per_token(shape, recipe) * recipe.path.activation_factor * tokens / GIB
    if not recipe.checkpointing:
        yield SizingLine("activations", shape.layers * block, f"{shape.layers} blocks, all kept")
        return
    width = 4 if recipe.path.float32_head else recipe.compute_bytes
    again = -(-shape.layers // recipe.recompute_every)
    whole = shape.layers - again + 1
    words = "one block at a time, recomputed" if whole == 1 else f"{whole} blocks at most"
    yield SizingLine("activations", whole * block, words)
    kept = again * shape.hidden * width * tokens / GIB
    yield SizingLine("checkpoints", kept, f"the input of {again} blocks")


def _loss(shape: ModelShape, recipe: Recipe) -> Iterator[SizingLine]:
    path = recipe.path
    tokens = path.logit_chunk_tokens or recipe.tokens_per_micro_batch
    tokens = min(tokens, recipe.tokens_per_micro_batch)
    gib = tokens * shape.vocab * path.logit_bytes / GIB
    yield SizingLine("logits", gib, f"{tokens} tokens x {shape.vocab} words, with gradients")


def _workspace(shape: ModelShape, recipe: Recipe) -> SizingLine:
    if not recipe.quantised:
        return SizingLine("dequantisation", 0.0, "nothing is quantised")
    gib = shape.largest_linear * recipe.compute_bytes / GIB
    return SizingLine("dequantisation", gib, "the largest layer, unpacked for its product")


def disk_needed(shape: ModelShape, recipe: Recipe, *, image_has_torch: bool = False) -> Sizing:
    """The disk that a fresh machine needs, line by line: the download as the Hub has it."""
    trained = shape.lora_params(recipe.lora_rank, recipe.lora_modules)
    state = _OPTIMIZER_BYTES.get(recipe.optimizer, 8.0)
    checkpoint = trained * (4 + state) / GIB
    copies = recipe.checkpoints_kept + 2
    bits = shape.hub_bytes * 8
    return Sizing(
        (
            SizingLine("base model", shape.download_bytes / GIB, f"{bits} bits on the Hub"),
            SizingLine(
                "checkpoints",
                copies * checkpoint,
                f"{recipe.checkpoints_kept} kept, one being written",
            ),
            SizingLine("adapter", trained * 4 / GIB, "what comes out"),
            SizingLine(
                "libraries", 0.0 if image_has_torch else LIBRARIES_GIB, "torch and its friends"
            ),
            SizingLine("scratch", SCRATCH_GIB, "data, logs and room to breathe"),
        )
    )


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the memory ladder: what to change of a recipe, fastest first.

    `recompute_every` k computes every k-th block again on the way back, 1 all of them, 0 none.
    `micro_batch_factor` multiplies the rows of a micro-batch and divides the accumulation, so
    that an optimizer step keeps its tokens on every rung.
    """

    quantised: bool
    recompute_every: int
    micro_batch_factor: int
    path: CodePath = FAST
    pieces: int = 1

    @property
    def name(self) -> str:
        """The rung for people."""
        recomputed = {0: "nothing", 1: "all", 2: "every 2nd block", 3: "every 3rd block"}
        k = self.recompute_every
        words = f"{recomputed.get(k, f'every {k}th block')} recomputed"
        rows = self.micro_batch_factor
        return ", ".join(
            [
                "4-bit base" if self.quantised else "16-bit base",
                words,
                *([f"{rows} rows at a time"] if rows > 1 else []),
                *([f"on {self.pieces} cards together"] if self.pieces > 1 else []),
            ]
        )

    def applied(self, recipe: Recipe) -> Recipe | None:
        """The recipe on this rung; None where the accumulation does not divide by the factor."""
        if recipe.accumulation % self.micro_batch_factor:
            return None
        return replace(
            recipe,
            quantised=self.quantised,
            checkpointing=self.recompute_every > 0,
            recompute_every=self.recompute_every or 1,
            rows_per_micro_batch=recipe.rows_per_micro_batch * self.micro_batch_factor,
            accumulation=recipe.accumulation // self.micro_batch_factor,
            path=self.path,
            pieces=self.pieces,
        )


LADDER: tuple[Rung, ...] = (
    Rung(quantised=False, recompute_every=0, micro_batch_factor=4),
    Rung(quantised=True, recompute_every=0, micro_batch_factor=4),
    Rung(quantised=False, recompute_every=0, micro_batch_factor=1),
    Rung(quantised=True, recompute_every=0, micro_batch_factor=1),
    Rung(quantised=True, recompute_every=4, micro_batch_factor=1),
    Rung(quantised=True, recompute_every=2, micro_batch_factor=1),
    Rung(quantised=True, recompute_every=1, micro_batch_factor=4),
    Rung(quantised=True, recompute_every=1, micro_batch_factor=1),
)
"""From the fastest way to train to the most frugal one, in the order measured on an H200."""


def ladder(
    shape: ModelShape, recipe: Recipe, *, fast: bool, pieces: int = 1
) -> Iterator[tuple[Rung, Recipe, Sizing]]:
    """Every rung that a recipe with one row a micro-batch may stand on, fastest first.

    A base that the config wants in 16 bits is never quantised; one that it wants in 4 may be
    either way, because 16 bits are what its 4 stand for. Off the fast path the recipe keeps its
    own, and recomputes all blocks or none. In `pieces` the base is spread over so many cards, in
    4 bits where that may be: every block goes over the wires twice a micro-batch.
    """
    seen = set()
    for rung in LADDER:
        mine = replace(
            rung,
            quantised=(rung.quantised or pieces > 1) and recipe.quantised,
            recompute_every=rung.recompute_every if fast else min(1, rung.recompute_every),
            path=FAST if fast else recipe.path,
            pieces=pieces,
        )
        on_rung = mine.applied(recipe)
        if on_rung is not None and mine not in seen:
            seen.add(mine)
            yield mine, on_rung, memory_needed(shape, on_rung)


def least_memory(shape: ModelShape, recipe: Recipe) -> Sizing:
    """The least that a card must have: the most frugal rung, where the trainer may choose it.

    A card without bf16 needs more, because it has no fast path: `recipe_on` knows.
    """
    fast = recipe.may_be_fast and shape.fast and recipe.compute != "fp16"
    if not recipe.plans_memory:
        return memory_needed(shape, replace(recipe, path=FAST) if fast else recipe)
    one_row = _one_row(recipe)
    return min(
        (sizing for _, _, sizing in ladder(shape, one_row, fast=fast)),
        key=lambda sizing: sizing.total_gib,
    )


def _one_row(recipe: Recipe) -> Recipe:
    """The recipe with one row at a time, as many rows a step: what the rungs multiply."""
    accumulation = recipe.accumulation * recipe.rows_per_micro_batch
    return replace(recipe, rows_per_micro_batch=1, accumulation=accumulation)


def recipe_on(shape: ModelShape, recipe: Recipe, gpu: GPU, cards: int = 1) -> Recipe:
    """How the trainer will really train by that recipe on each of `cards` such cards.

    That is its share of the rows, path, rung and number format. Where the memory ladder is left to
    it, it takes the fastest rung that fits with the whole base on each card; where none does, the
    fastest with the base spread over them; and where none does either, the most frugal one.
    """
    mine = recipe.shared_by(cards)
    fast = mine.may_be_fast and shape.fast and not gpu.is_cpu
    fast = fast and compute_on(recipe, gpu) != "fp16"
    may_spread = cards > 1 and recipe.sharding != "never" and not gpu.is_cpu
    must_spread = may_spread and recipe.sharding == "always"
    if gpu.is_cpu or not recipe.plans_memory:
        if must_spread:
            return replace(mine, pieces=cards)
        return replace(mine, path=FAST) if fast else mine
    one_row = _one_row(mine)
    whole = [] if must_spread else list(ladder(shape, one_row, fast=fast))
    spread = list(ladder(shape, one_row, fast=False, pieces=cards)) if may_spread else []
    rungs = [(sizing.total_gib, on) for _, on, sizing in (*whole, *spread)]
    fits = next((on for gib, on in rungs if gib <= gpu.vram_gib), None)
    return _own_rows(fits or min(rungs, key=lambda each: each[0])[1])


def _own_rows(recipe: Recipe) -> Recipe:
    """One adapter's part of the rows at a time, where several share them out."""
    rows = max(1, recipe.rows_per_micro_batch // recipe.rows_shared_by)
    accumulation = recipe.accumulation * recipe.rows_per_micro_batch // rows
    return replace(recipe, rows_per_micro_batch=rows, accumulation=accumulation)


def rungs_that_fit(
    shape: ModelShape, recipe: Recipe, vram_gib: float
) -> tuple[tuple[Rung, Sizing], ...]:
    """The rungs whose peak fits into that memory, fastest first, each with its breakdown."""
    found = []
    for rung in LADDER:
        on_rung = rung.applied(recipe)
        if on_rung is None:
            continue
        sizing = memory_needed(shape, on_rung)
        if sizing.total_gib <= vram_gib:
            found.append((rung, sizing))
    return tuple(found)
