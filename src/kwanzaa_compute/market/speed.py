"""How many tokens a second a recipe trains on a GPU, by roofline, with how sure that is.

Time of a micro-batch = matrix products (compute) + unpacking of 4-bit weights and all other
traffic (bandwidth), but never less than the host needs to launch its kernels. The figures are
taken from the profile of OLMo-7B on an H200; the unit tests hold the results against every
measured row. The user's own receipts replace them where there are any.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.recipe import FAST, Recipe, compute_on
from kwanzaa_compute.market.shapes import ModelShape

TRAFFIC_EFFICIENCY = 0.88
"""Share of data-sheet bandwidth that a copy reaches (4.23 of 4.8 TB/s)."""
FP32_SHARE = 1 / 8
"""Rate of 32-bit products, as a share of the dense 16-bit tensor rate."""
UNQUANTISED_HOST_SHARE = 0.68
"""Launching an unquantised block, as a share of a 4-bit one's (0.58 to 0.73 measured)."""
REPEATABLE_ATTENTION = 8.0
"""What a repeatable backward pass of attention costs, in forward passes of attention: 11,669 for
12,644 tokens/s on an H200, rows of 2,048, all recomputed (`nf4 all x1, repeatable, fresh` in
docs/benchmarks). Most of it is that Hopper's own kernel cannot be taken, so older cards lose less.
"""
GPUS_TOGETHER = 0.95
"""What each GPU keeps of its speed when several train one adapter: 0.948 on two H100."""
LINK_BYTES_PER_S = 20e9
"""Between two cards, at worst: PCIe 4.0 x16. Where there is NVLink it is ten times as much."""

_EFFICIENCY: dict[tuple[int, int], float] = {
    (7, 0): 0.60,
    (7, 5): 0.50,
    (8, 0): 0.80,
    (8, 6): 0.80,
    (8, 9): 0.80,
    (9, 0): 0.652,
    (10, 0): 0.60,
    (10, 3): 0.60,
    (12, 0): 0.70,
}
"""Share of the data-sheet rate that products reach. Hopper's is measured, the rest estimated."""

_POWER_BOUND = {"T4": 0.50, "L4": 0.50, "L40S": 0.65, "RTX 6000 Ada": 0.65, "RTX 2000 Ada": 0.6}
"""Cards whose power limit keeps them below what their architecture reaches; estimated."""

CPU_EFFICIENCY = 0.85
CPU_SECONDS_PER_LAYER = 0.006
"""What Python and small operations take on a processor for one block of a micro-batch."""

MEASURED_GPU = "H200"


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second: the slow end, what to expect, the fast end, and where that comes from."""

    low: float
    expected: float
    high: float
    provenance: str

    def scaled(self, factor: float) -> "Speed":
        """The same certainty at another speed."""
        return Speed(self.low * factor, self.expected * factor, self.high * factor, self.provenance)


@dataclass(frozen=True, slots=True)
class SpeedReceipt:
    """What one finished run really did on a GPU, beside what had been expected of it."""

    gpu: str
    expected_tokens_per_s: float
    actual_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Where the time of one micro-batch goes, in seconds; `host` runs beside the other three."""

    products: float
    unpacking: float
    traffic: float
    host: float
    gathering: float = 0.0
    """Blocks on their way from the other cards; it runs beside all the rest as well."""

    @property
    def seconds(self) -> float:
        """How long it takes: the GPU waits for the host or the wires, or they for the GPU."""
        return max(self.products + self.unpacking + self.traffic, self.host, self.gathering)

    @property
    def waits_for_host(self) -> bool:
        """Whether the GPU is idle part of the time, because kernels are launched too slowly."""
        return self.host > self.products + self.unpacking + self.traffic


def training_flops_per_token(shape: ModelShape, recipe: Recipe) -> float:
    """Work for one token of training: forward, the gradient of activations, recomputation.

    The base is frozen, so no gradient of its weights is computed.
    """
    attention = _attention_flops(shape, recipe)
    linear = 2.0 * shape.active_linear_params
    head = 2.0 * shape.head_params
    recomputed = (linear + attention) * recipe.recomputed_share
    return 2 * (linear + head) + 3 * attention + recomputed


def forward_flops_per_token(shape: ModelShape, recipe: Recipe) -> float:
    """Work for one token of evaluation."""
    linear = 2.0 * (shape.active_linear_params + shape.head_params)
    return linear + _attention_flops(shape, recipe)


def _attention_flops(shape: ModelShape, recipe: Recipe) -> float:
    return 2.0 * recipe.row_tokens * shape.q_dim * shape.layers


def micro_batch(
    shape: ModelShape, recipe: Recipe, gpu: GPU, *, training: bool = True
) -> MicroBatch:
    """Where the time of one micro-batch goes on that GPU; of evaluation if not `training`."""
    count = training_flops_per_token if training else forward_flops_per_token
    flops = count(shape, recipe) * recipe.tokens_per_micro_batch
    if training and recipe.repeatable and recipe.path is FAST:
        extra = REPEATABLE_ATTENTION * _attention_flops(shape, recipe)
        flops += extra * recipe.tokens_per_micro_batch
    if gpu.is_cpu:
        products = flops / (gpu.tflops_fp16 * 1e12 * CPU_EFFICIENCY)
        return MicroBatch(products, 0.0, CPU_SECONDS_PER_LAYER * shape.layers, 0.0)
    rate = _peak_flops(gpu, compute_on(recipe, gpu)) * efficiency(gpu) * _fill(shape, recipe)
    return MicroBatch(
        flops / rate,
        _unpacking_s(shape, recipe, gpu, training=training),
        _traffic_s(shape, recipe, gpu, training=training),
        _host_s(shape, recipe, training=training),
        _gathering_s(shape, recipe, training=training),
    )


def efficiency(gpu: GPU) -> float:
    """Share of its data-sheet rate that the products of a 7B model reach on this GPU."""
    return _POWER_BOUND.get(gpu.name, _EFFICIENCY.get(gpu.compute_capability, 0.60))


def _peak_flops(gpu: GPU, compute: str) -> float:
    tflops = gpu.tflops_bf16 if compute == "bf16" and gpu.bf16 else gpu.tflops_fp16
    return tflops * 1e12 * (FP32_SHARE if compute == "fp32" else 1.0)


def _fill(shape: ModelShape, recipe: Recipe) -> float:
    """Small products fill a GPU badly; 1 at the width and length that were measured."""
    tokens = recipe.tokens_per_micro_batch
    width = shape.hidden / (shape.hidden + 512) * (4608 / 4096)
    length = tokens / (tokens + 256) * (2304 / 2048)
    return min(1.0, width) * min(1.0, length)


def _unpacking_s(shape: ModelShape, recipe: Recipe, gpu: GPU, *, training: bool) -> float:
    if not recipe.quantised:
        return 0.0
    passes = 2 + recipe.recomputed_share if training else 1
    moved = shape.active_linear_params * (recipe.linear_bytes_per_param + recipe.compute_bytes)
    return passes * moved / (gpu.bandwidth_tb_s * 1e12 * recipe.path.unpacking)


def _traffic_s(shape: ModelShape, recipe: Recipe, gpu: GPU, *, training: bool) -> float:
    share = 0.75 + 0.25 * recipe.recomputed_share if training else 0.25
    widths = 4 * shape.hidden + 2 * shape.q_dim + 2 * shape.kv_dim + 2 * shape.intermediate
    unit = widths * recipe.compute_bytes * shape.layers * recipe.tokens_per_micro_batch
    moved = unit * recipe.path.traffic_factor * share
    return moved / (gpu.bandwidth_tb_s * 1e12 * TRAFFIC_EFFICIENCY)


def _host_s(shape: ModelShape, recipe: Recipe, *, training: bool) -> float:
    with_recomputation, without = recipe.path.launch_ms_per_layer
    per_layer = without + (with_recomputation - without) * recipe.recomputed_share
    per_layer *= 1.0 if recipe.quantised else UNQUANTISED_HOST_SHARE
    return shape.layers * per_layer / 1000 * (1.0 if training else 0.25)


def _gathering_s(shape: ModelShape, recipe: Recipe, *, training: bool) -> float:
    """Every block of a base in pieces comes once for the way there and once for the way back."""
    others = 1 - 1 / recipe.pieces
    moved = shape.linear_params * recipe.linear_bytes_per_param * others
    return (2 if training else 1) * moved / LINK_BYTES_PER_S


def speed(
    shape: ModelShape,
    recipe: Recipe,
    gpu: GPU,
    *,
    gpu_count: int = 1,
    training: bool = True,
    receipts: Iterable[SpeedReceipt] = (),
) -> Speed:
    """Tokens a second on `gpu_count` of these GPUs, rows' padding counted as tokens.

    The recipe is then that of each of them: its share of a step's rows.

    Raises ValueError for a GPU whose figures are unknown.
    """
    if not gpu.known:
        raise ValueError(f"the speed of {gpu.name} is unknown")
    batch = micro_batch(shape, recipe, gpu, training=training)
    expected = recipe.tokens_per_micro_batch / batch.seconds
    if gpu_count > 1:
        expected *= gpu_count * GPUS_TOGETHER
    mine = [r for r in receipts if r.gpu == gpu.name and _usable(r)]
    if mine:
        return _calibrated(expected, mine)
    low, high, provenance = _certainty(gpu, batch)
    return Speed(expected * low, expected, expected * high, provenance)


def _certainty(gpu: GPU, batch: MicroBatch) -> tuple[float, float, str]:
    if gpu.is_cpu:
        return 0.4, 2.0, "rough: scaled by FLOPs from tiny models measured on one core"
    if batch.waits_for_host:
        return (
            0.65,
            1.2,
            "the host is the limit: measured on an H200 machine; hosts differ by a third",
        )
    if gpu.name == MEASURED_GPU:
        return 0.88, 1.12, "measured on an H200 with OLMo-7B"
    return 0.70, 1.30, "scaled from an H200's profile by data-sheet rates and bandwidth"


def _usable(receipt: SpeedReceipt) -> bool:
    return receipt.expected_tokens_per_s > 0 and receipt.actual_tokens_per_s > 0


def _calibrated(expected: float, receipts: list[SpeedReceipt]) -> Speed:
    """What was seen before on this GPU; one run counts half, many count nearly whole."""
    ratios = [math.log(r.actual_tokens_per_s / r.expected_tokens_per_s) for r in receipts]
    trust = len(ratios) / (len(ratios) + 1)
    factor = math.exp(trust * sum(ratios) / len(ratios))
    spread = 0.15 + 0.15 / len(ratios)
    runs = "your own run" if len(ratios) == 1 else f"{len(ratios)} runs of yours"
    expected *= factor
    return Speed(
        expected * (1 - spread),
        expected,
        expected * (1 + spread),
        f"calibrated by {runs} on it: {factor:.2f} times the estimate",
    )
