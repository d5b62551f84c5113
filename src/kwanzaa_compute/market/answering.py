"""How long generated answers take: a forward pass a token, worked out and not yet timed."""

from dataclasses import dataclass, replace

from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.recipe import REFERENCE, Recipe
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.speed import TRAFFIC_EFFICIENCY, micro_batch, speed
from kwanzaa_compute.market.workload import Answers


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds that something takes: what to expect, and the most."""

    expected: float
    most: float


NOTHING = Span(0.0, 0.0)


def answering_s(shape: ModelShape, recipe: Recipe, gpu: GPU, answers: Answers) -> Span:
    """Seconds for generated answers: the prompts once, then token by token, a batch at a time.

    Every token is a forward pass by the reference path, whatever path trained. The host launches
    its kernels (a quarter of a training step's, see `micro_batch`) or the GPU reads all weights,
    whichever takes longer. No run of ours has timed it yet. One GPU answers, however many train.
    """
    if not answers.count:
        return NOTHING
    by_reference = replace(recipe, path=REFERENCE, checkpointing=False)
    one = replace(
        by_reference,
        row_tokens=1,
        rows_per_micro_batch=min(answers.batch_rows, answers.count),
        accumulation=1,
    )
    token = micro_batch(shape, one, gpu, training=False)
    read = shape.active_linear_params * recipe.linear_bytes_per_param
    read += shape.head_params * recipe.compute_bytes
    reading_s = 0.0 if gpu.is_cpu else read / (gpu.bandwidth_tb_s * 1e12 * TRAFFIC_EFFICIENCY)
    token_s = max(reading_s + token.unpacking, token.seconds)
    prompts_s = answers.prompt_tokens / speed(shape, by_reference, gpu, training=False).expected
    batches = -(-answers.count // one.rows_per_micro_batch)
    return Span(
        prompts_s + batches * answers.tokens * token_s,
        prompts_s + batches * answers.most_tokens * token_s,
    )
