from dataclasses import replace

import pytest

from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.recipe import (
    CHUNKED_LOSS,
    FAST,
    FUSED,
    NAIVE,
    REFERENCE,
    CodePath,
    Recipe,
)
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.sizing import (
    LADDER,
    disk_needed,
    least_memory,
    memory_needed,
    recipe_on,
    rungs_that_fit,
)

WITHIN = 0.065
"""How far a predicted peak may lie from a measured one."""

# Path, rows in a micro-batch, 4-bit base, recomputation, optimizer, peak in GiB on an H200.
MEASURED = [
    (NAIVE, 1, True, True, "paged_adamw_8bit", 7.6),
    (NAIVE, 1, True, True, "adamw_torch_fused", 7.9),
    (NAIVE, 4, True, True, "paged_adamw_8bit", 14.2),
    (NAIVE, 1, True, False, "paged_adamw_8bit", 22.6),
    (CHUNKED_LOSS, 1, True, True, "paged_adamw_8bit", 5.5),
    (CHUNKED_LOSS, 4, True, True, "paged_adamw_8bit", 10.9),
    (CHUNKED_LOSS, 8, True, True, "paged_adamw_8bit", 17.2),
    (CHUNKED_LOSS, 1, True, False, "paged_adamw_8bit", 18.1),
    (CHUNKED_LOSS, 4, True, False, "paged_adamw_8bit", 58.3),
    (CHUNKED_LOSS, 1, False, True, "paged_adamw_8bit", 14.6),
    (FUSED, 1, True, True, "paged_adamw_8bit", 5.5),
    (FUSED, 4, True, True, "paged_adamw_8bit", 7.9),
    (FUSED, 1, True, False, "paged_adamw_8bit", 11.6),
    (FUSED, 4, True, False, "paged_adamw_8bit", 32.0),
    (FUSED, 1, False, False, "paged_adamw_8bit", 20.4),
    (FUSED, 4, False, False, "paged_adamw_8bit", 40.8),
    (FUSED, 8, False, False, "paged_adamw_8bit", 68.8),
]


def at(path: CodePath, rows: int, quantised: bool, checkpointing: bool, optimizer: str) -> Recipe:
    return Recipe(
        path=path,
        rows_per_micro_batch=rows,
        quantised=quantised,
        checkpointing=checkpointing,
        optimizer=optimizer,
    )


@pytest.mark.parametrize(
    ("path", "rows", "quantised", "checkpointing", "optimizer", "gib"), MEASURED
)
def test_predicted_peaks_are_those_measured_on_an_h200(
    olmo, path, rows, quantised, checkpointing, optimizer, gib
):
    predicted = memory_needed(olmo, at(path, rows, quantised, checkpointing, optimizer))
    assert predicted.allocated_gib == pytest.approx(gib, rel=WITHIN)


@pytest.mark.parametrize(("rows", "gib", "over"), [(1, 24.9, 0.09), (4, 58.7, 0.17)])
def test_an_unquantised_base_with_stock_layers_is_overestimated_never_under(olmo, rows, gib, over):
    recipe = at(CHUNKED_LOSS, rows, False, False, "paged_adamw_8bit")
    assert gib <= memory_needed(olmo, recipe).allocated_gib <= gib * (1 + over)


@pytest.mark.parametrize(
    ("recipe", "reserved_gib"),
    [
        (Recipe(path=NAIVE), 8.7),
        (Recipe(path=CHUNKED_LOSS), 5.9),
        (Recipe(path=FUSED), 5.9),
        (Recipe(path=FUSED, checkpointing=False, rows_per_micro_batch=4), 34.3),
        (Recipe(path=FUSED, checkpointing=False, quantised=False), 21.4),
        (Recipe(path=FUSED, checkpointing=False, quantised=False, rows_per_micro_batch=4), 43.2),
    ],
)
def test_the_total_covers_what_torch_reserved(olmo, recipe, reserved_gib):
    """The driver sees what is reserved, and the context on top of it."""
    needed = memory_needed(olmo, recipe)
    assert reserved_gib * 0.98 <= needed.total_gib - needed.gib("context") <= reserved_gib * 1.14


def test_the_parts_add_up_and_name_everything(olmo, recipe):
    needed = memory_needed(olmo, recipe)
    assert needed.total_gib == pytest.approx(sum(line.gib for line in needed.lines))
    named = {line.what for line in needed.lines}
    assert named >= {
        "base weights",
        "embedding and head",
        "adapter",
        "gradients",
        "optimizer",
        "activations",
        "checkpoints",
        "logits",
        "dequantisation",
        "fragmentation",
        "context",
    }
    assert all(line.why for line in needed.lines)


def test_quantised_weights_include_their_constants(olmo):
    """0.5 bytes of NF4, a byte for 64 of them, and 4 bytes for 256 such bytes."""
    assert Recipe().linear_bytes_per_param == pytest.approx(0.5 + 1 / 64 + 4 / (64 * 256))
    assert Recipe(double_quant=False).linear_bytes_per_param == pytest.approx(0.5 + 4 / 64)
    assert memory_needed(olmo, Recipe()).gib("base weights") == pytest.approx(3.11, abs=0.01)


def test_the_seeds_config_fits_a_16_gb_card_and_not_an_8_gb_one(olmo, recipe):
    needed = memory_needed(olmo, recipe).total_gib
    assert needed < find_gpu("T4").vram_gib
    assert needed > find_gpu("RTX A2000").vram_gib


def test_memory_grows_with_everything_that_takes_memory(olmo, recipe):
    base = memory_needed(olmo, recipe).total_gib
    for more in (
        replace(recipe, rows_per_micro_batch=2),
        replace(recipe, row_tokens=4096),
        replace(recipe, quantised=False),
        replace(recipe, double_quant=False),
        replace(recipe, checkpointing=False),
        replace(recipe, lora_rank=64),
        replace(recipe, optimizer="adamw_torch"),
        replace(recipe, path=NAIVE),
        replace(recipe, compute="fp32"),
    ):
        assert memory_needed(olmo, more).total_gib > base
    assert memory_needed(olmo, replace(recipe, path=FUSED)).total_gib < base


def test_a_tiny_model_on_a_processor_needs_no_cuda_context():
    tiny = ModelShape("tiny", 128, 4, 4, 4, 32, 344, 2048, tied=True)
    needed = memory_needed(tiny, Recipe(row_tokens=256), on_gpu=False)
    assert 0.8 < needed.total_gib < 1.2
    assert needed.gib("base weights") < 0.01


def test_disk_holds_the_float32_download_of_olmo_7b(olmo, recipe):
    needed = disk_needed(olmo, recipe)
    assert needed.gib("base model") * 1.073741824 == pytest.approx(27.6, abs=0.1)
    assert needed.total_gib > needed.gib("base model") + needed.gib("checkpoints")
    assert disk_needed(olmo, recipe, image_has_torch=True).total_gib < needed.total_gib


def test_the_ladder_keeps_the_tokens_of_a_step_on_every_rung(recipe):
    for rung in LADDER:
        on_rung = rung.applied(recipe)
        assert on_rung is not None
        assert on_rung.tokens_per_step == recipe.tokens_per_step


def test_a_rung_that_cannot_keep_the_step_is_left_out(olmo):
    three = Recipe(accumulation=3)
    factors = {rung.micro_batch_factor for rung, _ in rungs_that_fit(olmo, three, 1000)}
    assert factors == {1}


def test_the_ladder_ends_in_what_fits_a_small_card_and_offers_more_to_a_large_one(olmo, recipe):
    def names(vram_gib: float) -> list[str]:
        return [rung.name for rung, _ in rungs_that_fit(olmo, recipe, vram_gib)]

    assert names(7) == ["4-bit base, all recomputed"]
    assert names(14.56)[0] == "4-bit base, nothing recomputed"
    assert names(23.52)[0] == "16-bit base, nothing recomputed"
    assert names(79.15)[0] == "16-bit base, nothing recomputed, 4 rows at a time"
    assert names(4) == []


def test_the_reference_path_lies_between_the_naive_and_the_fused_one(olmo, recipe):
    naive, ours, fused = (
        memory_needed(olmo, replace(recipe, path=path)).total_gib
        for path in (NAIVE, REFERENCE, FUSED)
    )
    assert fused < ours < naive


DEFAULT = Recipe(plans_memory=True, may_be_fast=True)


@pytest.mark.parametrize(
    ("card", "quantised", "every", "rows", "path"),
    [
        ("RTX 4070 Ti", True, 2, 1, FAST),
        ("RTX 4080", True, 0, 1, FAST),
        ("RTX 4090", False, 0, 1, FAST),
        ("A100-40GB", True, 0, 4, FAST),
        ("A100-80GB", False, 0, 4, FAST),
        ("T4", True, 1, 1, REFERENCE),
    ],
)
def test_the_plan_stands_where_the_trainer_was_seen_to_stand(
    olmo, card, quantised, every, rows, path
):
    """Five rungs that the trainer took under these cards' limits; a T4 has no bf16."""
    gpu = find_gpu(card)
    on = recipe_on(olmo, DEFAULT, gpu)
    assert (on.quantised, on.rows_per_micro_batch, on.path) == (quantised, rows, path)
    assert (on.recompute_every if on.checkpointing else 0) == every
    assert memory_needed(olmo, on).total_gib <= gpu.vram_gib
    assert on.tokens_per_step == DEFAULT.tokens_per_step


def test_a_recipe_that_is_to_stay_as_written_stays_so_on_every_card(olmo):
    asked = replace(DEFAULT, plans_memory=False)
    assert recipe_on(olmo, asked, find_gpu("H200")) == replace(asked, path=FAST)
    assert recipe_on(olmo, replace(asked, may_be_fast=False), find_gpu("H200")).path == REFERENCE


def test_a_repeatable_run_takes_the_memory_that_was_measured_for_it(olmo):
    """6.82 GiB of the card, in the row `nf4 all x1, repeatable, fresh`: as much as any other."""
    exact = Recipe(path=FAST, repeatable=True)
    assert memory_needed(olmo, exact).total_gib == pytest.approx(6.82, rel=0.08)


def test_a_16_bit_base_is_never_quantised_to_make_it_fit(olmo):
    asked = replace(DEFAULT, quantised=False)
    assert not recipe_on(olmo, asked, find_gpu("T4")).quantised
    assert least_memory(olmo, asked).total_gib > 13


def test_a_base_without_a_fast_path_is_planned_on_the_reference_path(olmo):
    slow = replace(olmo, fast=False)
    assert recipe_on(slow, DEFAULT, find_gpu("H200")).path == REFERENCE
    assert least_memory(slow, DEFAULT).total_gib > least_memory(olmo, DEFAULT).total_gib


def test_what_fits_nowhere_is_planned_on_the_most_frugal_rung(olmo):
    small = replace(find_gpu("RTX 4080"), vram_gib=4.0)
    on = recipe_on(olmo, DEFAULT, small)
    assert memory_needed(olmo, on) == least_memory(olmo, DEFAULT)
