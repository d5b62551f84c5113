"""What the GPU measurements share: a base of OLMo-7B's shape made there, rows, a stopwatch.

Random weights and tokens: the loss means nothing here, time and memory do. What is measured is the
trainer's own step: collating, forward, backward, clipping, optimizer.
"""

import math
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.market.recipe import FAST, REFERENCE, recipe_from_config
from kwanzaa_compute.market.shapes import find_shape
from kwanzaa_compute.market.sizing import memory_needed
from kwanzaa_compute.market.speed import training_flops_per_token
from kwanzaa_trainer.batches import collate, micro_batches
from kwanzaa_trainer.data import IGNORED, Sample
from kwanzaa_trainer.fast.path import FastPath, make_fast_path
from kwanzaa_trainer.learner import Learner, make_learner, take_step
from kwanzaa_trainer.model import attach_adapter, set_recomputation, trainable
from kwanzaa_trainer.packing import Row, pack
from kwanzaa_trainer.precision import choose_precision, find_device
from kwanzaa_trainer.team import ALONE, Team

MODEL = "allenai/OLMo-7B-Instruct-hf"
ROW = 2048 if torch.cuda.is_available() else 128
ROWS_A_STEP = 16
SMALL = not torch.cuda.is_available()
"""Without a GPU everything is tiny: a rehearsal of the script, not a measurement."""
WORDS = 320 if SMALL else 50304
GIB = 2**30


def make_base(
    *,
    quantised: bool,
    layers: int | None = None,
    kind: torch.dtype | None = None,
    keep_on: str | None = None,
) -> Any:
    """OLMo-7B's shape on the GPU, frozen, random weights (bf16) or their NF4.

    The same weights are drawn where they are to be kept elsewhere, in plain memory say.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers import OlmoConfig, OlmoForCausalLM

    size: dict[str, Any] = {"vocab_size": WORDS, "pad_token_id": 1, "eos_token_id": 0}
    if SMALL:
        size |= {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4}
    config = OlmoConfig(**size, num_hidden_layers=layers or (2 if SMALL else 32))
    config._attn_implementation = "sdpa"  # noqa: SLF001 -- no public way without loading
    config.use_cache = False
    device = torch.device("cpu" if SMALL else "cuda")
    kind = torch.float32 if SMALL else kind or torch.bfloat16
    torch.manual_seed(0)
    with torch.device("meta"):
        model = OlmoForCausalLM(config)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)

    def weight(shape: torch.Size) -> torch.Tensor:
        drawn = torch.empty(shape, device=device, dtype=kind).normal_(0, 0.02)
        return drawn if keep_on is None else drawn.to(keep_on)

    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, old in list(parent.named_children()):
                if not isinstance(old, torch.nn.Linear):
                    continue
                value = weight(old.weight.shape)
                if quantised:
                    options = {"compress_statistics": True, "quant_type": "nf4"}
                    new = Linear4bit(
                        old.in_features,
                        old.out_features,
                        bias=False,
                        compute_dtype=kind,
                        device="meta",
                        **options,
                    )
                    new.weight = Params4bit(value, requires_grad=False, module=new, **options).to(
                        device
                    )
                    setattr(parent, name, new)
                else:
                    old.weight = torch.nn.Parameter(value, requires_grad=False)
    for module in (model.model.embed_tokens, model.lm_head):
        module.weight = torch.nn.Parameter(weight(module.weight.shape), requires_grad=False)
    if quantised:
        model.is_loaded_in_4bit = True
    model.config.dtype = kind
    return model


def config_of(
    *, dropout: float = 0.0, quantised: bool = True, precision: str = "bf16"
) -> TrainingConfig:
    """The founding recipe: 16 rows a step, LoRA r 16 on all linears."""
    return TrainingConfig.model_validate(
        {
            "run": {"name": "bench", "mixed_precision": precision},
            "model": {"base_model_id": MODEL},
            "adapter": {
                "method": "qlora" if quantised else "lora",
                "lora": {"r": 16, "alpha": 32, "dropout": dropout},
            },
            "data": {"train_file": "t", "format": "text_jsonl", "max_seq_length": ROW},
            "training": {
                "gradient_accumulation_steps": ROWS_A_STEP,
                "per_device_train_batch_size": 1,
                "optim": "adamw_torch" if SMALL else "paged_adamw_8bit",
            },
        }
    )


def adapted(base: Any, config: TrainingConfig) -> Any:
    """The base with an adapter that already does something: B is not zero."""
    model = attach_adapter(base, config)
    torch.manual_seed(1)
    for name, parameter in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.005)
    return model.train()


def learner_of(
    model: Any,
    config: TrainingConfig,
    *,
    fast: bool,
    repeatable: bool = False,
    total_steps: int = 1000,
    team: Team = ALONE,
    in_step: bool = False,
) -> Learner:
    """The trainer's learner on that model, on either path, alone or in a team."""
    device = find_device()
    precision = choose_precision(config.run.mixed_precision, device)
    path: FastPath | None = None
    if fast:
        path = make_fast_path(model, precision.torch_dtype, ROW, repeatable=repeatable)
    else:
        set_recomputation(model.get_base_model(), config, on=True)
    return make_learner(
        model, config, total_steps, precision, device, fast=path, team=team, in_step=in_step
    )


def full_rows(count: int, seed: int) -> tuple[list[Sample], list[Row]]:
    """Samples of exactly one row each."""
    samples = [_sample(ROW, seed * 1000 + number) for number in range(count)]
    return samples, [(number,) for number in range(count)]


def short_samples(count: int, seed: int) -> tuple[list[Sample], list[Row]]:
    """Samples with log-normal lengths, 314 tokens on average, packed."""
    draw = random.Random(seed)  # noqa: S311 -- tokens, not keys
    lengths = [
        min(ROW, max(24, int(math.exp(draw.gauss(math.log(300) - 0.245, 0.7)))))
        for _ in range(count)
    ]
    samples = [_sample(length, seed * 1000 + n) for n, length in enumerate(lengths)]
    return samples, pack(lengths, ROW)


def _sample(length: int, seed: int) -> Sample:
    ids = torch.randint(2, WORDS - 20, (length,), generator=torch.Generator().manual_seed(seed))
    numbers = array("i", ids.tolist())
    return Sample(seed, numbers, array("i", [IGNORED, *numbers[1:]]))


def steps(
    learner: Learner,
    data: tuple[Sequence[Sample], Sequence[Row]],
    *,
    rows: int,
    timed: int,
    warm: int = 1,
) -> dict[str, Any]:
    """Times the learner's steps on consecutive rows; memory is the peak over all of them.

    Of a team every process takes its share of the rows; the tokens are those of all.
    """
    samples, all_rows = data
    settle()
    took, result, useful, seen = [], None, 0, []
    for number in range(warm + timed):
        at = number * ROWS_A_STEP % max(1, len(all_rows) - ROWS_A_STEP + 1)
        mine = learner.team.share(all_rows[at : at + ROWS_A_STEP])
        start = time.perf_counter()
        batches = [collate(samples, piece, 1, length=ROW) for piece in micro_batches(mine, rows)]
        result = take_step(learner, batches)
        sync()
        seen.append((result.loss, result.grad_norm))
        if number >= warm:
            took.append(time.perf_counter() - start)
            useful += result.tokens
    median = sorted(took)[len(took) // 2]
    return {
        "tok_s": round(ROWS_A_STEP * ROW / median, 1),
        "useful_tok_s": round(useful / sum(took), 1),
        "step_s": [round(t, 4) for t in took],
        "loss": result and result.loss,
        "grad_norm": result and result.grad_norm,
        "by_step": seen,
        **memory_now(),
    }


def predicted(*, quantised: bool, every: int, rows: int, fast: bool = True) -> dict[str, Any]:
    """What the ladder says of that rung, and the work of a token on it."""
    shape = find_shape(MODEL)
    if shape is None:
        raise LookupError(MODEL)
    recipe = replace(
        recipe_from_config(config_of(quantised=quantised)),
        rows_per_micro_batch=rows,
        accumulation=ROWS_A_STEP // rows,
        checkpointing=every > 0,
        recompute_every=every or 1,
        path=FAST if fast else REFERENCE,
    )
    sizing = memory_needed(shape, recipe)
    bare = training_flops_per_token(shape, replace(recipe, checkpointing=False))
    return {
        "predicted_gib": round(sizing.total_gib, 2),
        "predicted_reserved_gib": round(sizing.total_gib - sizing.gib("context"), 2),
        "model_gflop_per_token": round(bare / 1e9, 3),
    }


def memory_now() -> dict[str, float]:
    """Peaks since `settle`, and what the whole card has in use now, in GiB."""
    if SMALL:
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
        "allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "card_gib": round((total - free) / GIB, 2),
    }


def settle() -> None:
    """Gives back what is cached and starts counting peaks anew."""
    import gc

    gc.collect()
    if not SMALL:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def sync() -> None:
    """Waits for the GPU."""
    if not SMALL:
        torch.cuda.synchronize()


def ceiling_tflops() -> float:
    """The card's own rate for a product of 8192 x 8192 x 8192 in bf16, on random data."""
    if SMALL:
        return 0.0
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    sync()
    start = time.perf_counter()
    for _ in range(20):
        a @ b
    sync()
    return round(20 * 2 * 8192**3 / (time.perf_counter() - start) / 1e12, 1)
