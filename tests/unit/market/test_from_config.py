"""From a validated training.yaml to a recipe, a workload, requirements and a plan."""

import ast
import json
from decimal import Decimal
from pathlib import Path

import pytest

import kwanzaa_compute.market.gpus as gpus_module
from kwanzaa_compute.config import TrainingConfig, load_config
from kwanzaa_compute.market.gpus import cpu_device, find_gpu
from kwanzaa_compute.market.offers import Precision
from kwanzaa_compute.market.plan import Task, make_plan, requirements_for, settings_for
from kwanzaa_compute.market.prices import bundled_offers
from kwanzaa_compute.market.recipe import compute_on, recipe_from_config
from kwanzaa_compute.market.shapes import find_shape
from kwanzaa_compute.market.workload import TextSize, workload_from_config


def config(**sections) -> TrainingConfig:
    return TrainingConfig(
        **{
            "model": {"base_model_id": "allenai/OLMo-7B-Instruct"},
            "data": {"train_file": "train.jsonl"},
            **sections,
        }
    )


def test_every_key_that_takes_memory_or_time_reaches_the_recipe():
    recipe = recipe_from_config(
        config(
            run={"mixed_precision": "fp16"},
            data={"train_file": "t.jsonl", "max_seq_length": 1024},
            adapter={
                "method": "qlora",
                "lora": {"r": 8, "target_modules": ["q_proj", "v_proj"]},
                "quantization": {"bnb_4bit_use_double_quant": False},
            },
            training={
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 4,
                "gradient_checkpointing": False,
                "optim": "adamw_torch",
            },
            checkpointing={"save_total_limit": 5},
        )
    )
    assert (recipe.row_tokens, recipe.rows_per_micro_batch, recipe.accumulation) == (1024, 2, 4)
    assert recipe.tokens_per_step == 8192
    assert (recipe.lora_rank, recipe.lora_modules) == (8, ("q_proj", "v_proj"))
    assert recipe.quantised
    assert not recipe.double_quant
    assert not recipe.checkpointing
    assert (recipe.compute, recipe.optimizer) == ("fp16", "adamw_torch")
    assert recipe.checkpoints_kept == 5


def test_plain_lora_keeps_a_16_bit_base_and_no_means_32_bits():
    assert not recipe_from_config(config(adapter={"method": "lora"})).quantised
    assert recipe_from_config(config(run={"mixed_precision": "no"})).compute == "fp32"


def test_the_number_format_follows_the_gpu_as_the_trainer_does():
    recipe = recipe_from_config(config())
    assert compute_on(recipe, find_gpu("A10G")) == "bf16"
    assert compute_on(recipe, find_gpu("T4")) == "fp16"
    assert compute_on(recipe, cpu_device(8)) == "fp32"


def test_limits_and_wishes_of_the_config_reach_the_requirements(olmo):
    asked = config(
        compute={
            "max_usd": 5,
            "max_hours": 3.0,
            "deadline_hours": 6.0,
            "gpu": "A100",
            "spot": False,
        }
    )
    needs = requirements_for(asked, olmo, features=frozenset({"custom-code"}))
    assert (needs.max_usd, needs.max_hours, needs.deadline_h) == (Decimal(5), 3.0, 6.0)
    assert (needs.gpu, needs.spot, needs.gpu_count) == ("A100", False, 1)
    assert needs.precision is Precision.BF16_PREFERRED
    assert needs.features == {"custom-code"}
    assert 6.5 < needs.vram_gib < 7
    assert 35 < needs.disk_gib < 45


def test_the_configs_buffer_and_providers_reach_the_settings():
    made = settings_for(config(compute={"buffer_fraction": 0.2, "provider": ["runpod"]}), now=1.0)
    assert made.extras.buffer == Decimal("0.2")
    assert made.providers == ("runpod",)
    assert made.now == 1.0


def test_the_workload_follows_the_configs_rhythm():
    job = workload_from_config(
        config(
            training={"num_train_epochs": 2, "max_steps": 3},
            evaluation={"strategy": "steps", "steps": 2},
            checkpointing={"save_steps": 2, "save_seconds": 120},
        ),
        TextSize(samples=100, characters=400_000, messages=300),
        TextSize(samples=10, characters=40_000, messages=30),
    )
    assert job.steps == 3
    assert job.tokens_per_epoch == 100_000 + 1500
    assert job.evaluations == 2
    assert (job.save_every_steps, job.save_every_s) == (2, 120)
    assert "characters" in job.provenance


def test_generated_answers_are_part_of_the_workload_where_they_are_asked_for():
    size = TextSize(samples=100, characters=400_000, messages=300)
    held_out = TextSize(samples=30, characters=60_000, messages=60)
    both = {"train_file": "t.jsonl", "eval_file": "e.jsonl"}
    asked = config(
        data=both,
        evaluation={
            "metrics": ["loss", "json_valid_rate"],
            "generation": {"max_samples": 20, "max_new_tokens": 300, "batch_size": 4},
        },
    )
    answers = workload_from_config(asked, size, held_out).answers
    each = (60_000 / 4 + 60 * 5) / 30
    assert (answers.count, answers.batch_rows, answers.most_tokens) == (20, 4, 300)
    assert (answers.prompt_tokens, answers.tokens) == (20 * each, 300)
    assert workload_from_config(config(data=both), size, held_out).answers.count == 0
    assert workload_from_config(asked, size, None).answers.count == 0


def test_the_plan_shows_what_answers_cost_and_the_late_end_counts_the_longest(olmo):
    size = TextSize(samples=100, characters=400_000, messages=300)
    held_out = TextSize(samples=30, characters=30_000, messages=60)
    data = {"train_file": "t.jsonl", "eval_file": "e.jsonl"}
    bills = {}
    for metrics in (["loss"], ["loss", "json_valid_rate"]):
        asked = config(data=data, evaluation={"metrics": metrics})
        task = Task(workload_from_config(asked, size, held_out), olmo, recipe_from_config(asked))
        best = make_plan(requirements_for(asked, olmo), bundled_offers(), task).best
        bills[len(metrics)] = best
        lines = {line.what: line for line in best.lines}
        assert ("answers" in lines) is (len(metrics) > 1)
        assert sum(line.usd for line in best.lines) == best.usd.expected
    assert lines["answers"].seconds > 10
    assert "token by token" in lines["answers"].why
    assert bills[2].usd.expected > bills[1].usd.expected
    late, early = (bills[n].hours.high * 3600 for n in (2, 1))
    assert late - early > 2 * lines["answers"].seconds


def test_without_evaluation_nothing_is_evaluated():
    size = TextSize(samples=100, characters=400_000)
    never = config(evaluation={"strategy": "no"})
    assert workload_from_config(never, size, size).eval_tokens == 0
    assert workload_from_config(config(), size, None).eval_tokens == 0


def test_the_first_users_real_config_and_data_are_planned_from_the_bundled_prices(
    snapshot_day, real_inputs
):
    loaded = load_config(real_inputs / "training.yaml")
    lines = (real_inputs / "kwanzaa_train.jsonl").read_text("utf-8").splitlines()
    chats = [json.loads(line)["messages"] for line in lines]
    size = TextSize(
        samples=len(chats),
        characters=sum(len(message["content"]) for chat in chats for message in chat),
        messages=sum(map(len, chats)),
    )
    shape = find_shape(loaded.model.native_base_model_id)
    job = workload_from_config(loaded, size)
    needs = requirements_for(loaded, shape)
    settings = settings_for(loaded, now=snapshot_day)
    task = Task(job, shape, recipe_from_config(loaded))
    plan = make_plan(needs, bundled_offers(), task, settings)
    assert 0.4e6 < job.data_tokens < 0.7e6
    assert plan.best.usd.expected < Decimal("0.25")
    assert plan.best.hours.expected < 1
    assert len(plan.candidates) + len(plan.refused) == len(bundled_offers())


@pytest.mark.parametrize("module", ["gpus", "shapes", "recipe", "sizing"])
def test_what_the_trainer_reads_imports_nothing_heavy(module):
    """Only the standard library's light parts, and one another."""
    allowed = {"re", "collections.abc", "dataclasses", "functools", "typing"}
    source = Path(gpus_module.__file__).with_name(f"{module}.py").read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            assert node.module in allowed or node.module in {
                "kwanzaa_compute.market.gpus",
                "kwanzaa_compute.market.shapes",
                "kwanzaa_compute.market.recipe",
            }
