import json
from dataclasses import replace
from pathlib import Path

import pytest

from kwanzaa_compute.market.gpus import all_gpus, cpu_device, find_gpu, unknown_gpu
from kwanzaa_compute.market.recipe import (
    CHUNKED_LOSS,
    FAST,
    FUSED,
    FUSED_GRAPH,
    NAIVE,
    REFERENCE,
    Recipe,
)
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.speed import (
    SpeedReceipt,
    forward_flops_per_token,
    micro_batch,
    speed,
    training_flops_per_token,
)

# Tokens a second measured on an H200 with OLMo-7B, rows of 2048, and how far we may be off.
MEASURED = [
    (Recipe(path=NAIVE), 4818, 0.05),
    (Recipe(path=REFERENCE), 5434, 0.05),
    (Recipe(path=CHUNKED_LOSS), 5329, 0.05),
    (Recipe(path=NAIVE, rows_per_micro_batch=4), 6999, 0.05),
    (Recipe(path=CHUNKED_LOSS, rows_per_micro_batch=4), 7872, 0.05),
    (Recipe(path=CHUNKED_LOSS, rows_per_micro_batch=8), 8039, 0.05),
    (Recipe(path=NAIVE, checkpointing=False), 8393, 0.05),
    (Recipe(path=CHUNKED_LOSS, checkpointing=False), 7226, 0.05),
    (Recipe(path=CHUNKED_LOSS, checkpointing=False, rows_per_micro_batch=4), 11419, 0.05),
    (Recipe(path=CHUNKED_LOSS, quantised=False), 7557, 0.06),
    (Recipe(path=FUSED, rows_per_micro_batch=4), 12145, 0.08),
    (Recipe(path=FUSED, checkpointing=False), 11527, 0.05),
    (Recipe(path=FUSED, checkpointing=False, rows_per_micro_batch=4), 17425, 0.08),
    (Recipe(path=FUSED_GRAPH), 10507, 0.10),
    (Recipe(path=FUSED_GRAPH, rows_per_micro_batch=4), 12217, 0.08),
    (Recipe(path=FUSED_GRAPH, checkpointing=False), 15108, 0.12),
    (Recipe(path=FUSED_GRAPH, checkpointing=False, quantised=False), 17170, 0.15),
]


@pytest.mark.parametrize(("recipe", "tokens_per_s", "within"), MEASURED)
def test_predictions_on_an_h200_are_what_was_measured(olmo, recipe, tokens_per_s, within):
    predicted = speed(olmo, recipe, find_gpu("H200"))
    assert predicted.expected == pytest.approx(tokens_per_s, rel=within)
    assert predicted.low < predicted.expected < predicted.high


RAW = Path(__file__).parents[3] / "docs/benchmarks/2026-11-24-h200-fast-3.jsonl"


def measured_rungs():
    """The rungs of the trainer's own fast path, from the raw rows ("nf4 every 2 x1")."""
    for line in RAW.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "predicted_gib" in row and "repeatable" not in row["name"]:
            base, *words, rows = row["name"].split()
            every = {"none": 0, "all": 1}.get(words[0]) if len(words) == 1 else int(words[1])
            recipe = Recipe(
                quantised=base == "nf4",
                checkpointing=every > 0,
                recompute_every=every or 1,
                rows_per_micro_batch=int(rows[1:]),
                path=FAST,
            )
            yield pytest.param(recipe, row["tok_s"], id=row["name"])


@pytest.mark.parametrize(("recipe", "tokens_per_s"), list(measured_rungs()))
def test_the_speed_of_every_rung_is_within_7_percent_of_its_raw_row(olmo, recipe, tokens_per_s):
    predicted = speed(olmo, recipe, find_gpu("H200"))
    assert predicted.expected == pytest.approx(tokens_per_s, rel=0.07)
    assert predicted.low < tokens_per_s < predicted.high


# The estimates that were published beside the measurements, from another model of the same profile.
ESTIMATED = [
    ("A100-40GB", NAIVE, 2300),
    ("A100-40GB", FUSED_GRAPH, 4300),
    ("A100-80GB SXM", NAIVE, 2700),
    ("A100-80GB SXM", FUSED_GRAPH, 4600),
    ("RTX 4090", NAIVE, 1400),
    ("RTX 4090", FUSED_GRAPH, 2400),
    ("A10G", NAIVE, 700),
    ("A10G", FUSED_GRAPH, 1100),
]


@pytest.mark.parametrize(("gpu", "path", "tokens_per_s"), ESTIMATED)
def test_other_gpus_agree_with_the_estimates_scaled_from_that_profile(
    olmo, gpu, path, tokens_per_s
):
    predicted = speed(olmo, Recipe(path=path), find_gpu(gpu))
    assert predicted.expected == pytest.approx(tokens_per_s, rel=0.06)
    assert "scaled" in predicted.provenance


def test_a_t4_stays_below_its_best_case(olmo):
    """Measured nowhere: 500 and 900 tokens/s are ceilings that its power limit forbids."""
    t4 = find_gpu("T4")
    assert 200 < speed(olmo, Recipe(path=NAIVE), t4).expected < 500
    assert 400 < speed(olmo, Recipe(path=FUSED_GRAPH), t4).expected < 900


def test_the_work_for_a_token_is_what_was_counted_by_hand(olmo):
    assert forward_flops_per_token(olmo, Recipe()) / 1e9 == pytest.approx(13.90, abs=0.01)
    without = Recipe(checkpointing=False)
    assert training_flops_per_token(olmo, without) / 1e9 == pytest.approx(28.34, abs=0.01)
    assert training_flops_per_token(olmo, Recipe()) / 1e9 == pytest.approx(41.83, abs=0.01)


def test_at_one_row_an_h200_waits_for_python_and_at_four_it_does_not(olmo):
    gpu = find_gpu("H200")
    assert micro_batch(olmo, Recipe(path=NAIVE), gpu).waits_for_host
    assert not micro_batch(olmo, Recipe(path=NAIVE, rows_per_micro_batch=4), gpu).waits_for_host
    assert "host" in speed(olmo, Recipe(path=NAIVE), gpu).provenance


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_evaluation_is_faster_than_training_on_every_gpu(olmo, recipe, gpu):
    assert (
        speed(olmo, recipe, gpu, training=False).expected
        > 1.5 * speed(olmo, recipe, gpu).expected
        > 0
    )


def test_no_prediction_beats_the_gpus_own_ceiling(olmo):
    """Dense products alone, at the data sheet's full rate, bound every estimate's high end."""
    for gpu in all_gpus():
        fast = Recipe(path=FUSED_GRAPH, rows_per_micro_batch=8, checkpointing=False)
        ceiling = gpu.tflops_fp16 * 1e12 / training_flops_per_token(olmo, fast)
        assert speed(olmo, fast, gpu).expected < ceiling


def test_smaller_models_are_faster_but_not_in_proportion(olmo, recipe):
    one = ModelShape("1B", 2048, 16, 16, 16, 128, 8192, 50304, tied=True)
    fast, slow = (speed(m, recipe, find_gpu("A100-80GB")).expected for m in (one, olmo))
    assert slow < fast < slow * olmo.params / one.params * 1.2


@pytest.mark.parametrize("width", [128, 192])
def test_a_tiny_model_on_one_core_does_thousands_of_tokens_a_second(width):
    tiny = ModelShape("tiny", width, 4, 4, 4, width // 4, width * 8 // 3, 2048, tied=True)
    recipe = Recipe(row_tokens=256, rows_per_micro_batch=4)
    predicted = speed(tiny, recipe, cpu_device(8))
    assert predicted.low < 4000 < predicted.high or predicted.low < 2000 < predicted.high
    assert 1500 < predicted.expected < 6500
    assert "rough" in predicted.provenance


def test_a_7b_model_on_a_processor_takes_seconds_a_token(olmo, recipe):
    assert speed(olmo, recipe, cpu_device(64)).expected < 2


def test_two_gpus_are_nearly_twice_as_fast(olmo, recipe):
    gpu = find_gpu("A10G")
    one, two = (speed(olmo, recipe, gpu, gpu_count=n).expected for n in (1, 2))
    assert 1.8 * one < two < 2 * one


def test_the_speed_of_an_unknown_gpu_is_not_guessed(olmo, recipe):
    with pytest.raises(ValueError, match="MI300X"):
        speed(olmo, recipe, unknown_gpu("MI300X", 192))


def test_a_card_without_bf16_computes_in_fp16(olmo, recipe):
    v100 = find_gpu("V100")
    assert speed(olmo, recipe, v100) == speed(olmo, replace(recipe, compute="fp16"), v100)


def test_32_bit_training_is_much_slower(olmo, recipe):
    gpu = find_gpu("A100")
    full = speed(olmo, replace(recipe, compute="fp32"), gpu).expected
    assert full < speed(olmo, recipe, gpu).expected / 2


def test_receipts_move_the_estimate_towards_what_was_seen_and_narrow_it(olmo, recipe):
    gpu = find_gpu("A10G")
    guess = speed(olmo, recipe, gpu)
    slower = SpeedReceipt("A10G", 1000, 500)
    once = speed(olmo, recipe, gpu, receipts=[slower])
    often = speed(olmo, recipe, gpu, receipts=[slower] * 20)
    assert guess.expected * 0.5 < often.expected < once.expected < guess.expected
    assert often.expected == pytest.approx(guess.expected * 0.5, rel=0.05)
    assert (often.high - often.low) / often.expected < (guess.high - guess.low) / guess.expected
    assert "20 runs" in often.provenance


def test_receipts_of_other_gpus_and_nonsense_receipts_change_nothing(olmo, recipe):
    gpu = find_gpu("A10G")
    receipts = [SpeedReceipt("T4", 1000, 500), SpeedReceipt("A10G", 0, 500)]
    assert speed(olmo, recipe, gpu, receipts=receipts) == speed(olmo, recipe, gpu)
