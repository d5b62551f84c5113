"""What the tests of the market share: one model, one recipe, and the first user's real job."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from kwanzaa_compute.market.offers import Offer, Requirements
from kwanzaa_compute.market.plan import Plan, Settings, Task, make_plan
from kwanzaa_compute.market.recipe import Recipe
from kwanzaa_compute.market.shapes import ModelShape, find_shape
from kwanzaa_compute.market.sizing import disk_needed, memory_needed
from kwanzaa_compute.market.workload import Workload, count_tokens_from_characters, workload


@pytest.fixture
def olmo() -> ModelShape:
    shape = find_shape("allenai/OLMo-7B-Instruct-hf")
    assert shape is not None
    return shape


@pytest.fixture
def recipe() -> Recipe:
    return Recipe()


@pytest.fixture
def requirements(olmo: ModelShape, recipe: Recipe) -> Requirements:
    return Requirements(
        vram_gib=memory_needed(olmo, recipe).total_gib,
        disk_gib=disk_needed(olmo, recipe).total_gib,
    )


@pytest.fixture
def small_job() -> Workload:
    """The first user's data: 107 chats of 4,930 characters on average, four epochs."""
    tokens = count_tokens_from_characters(107 * 4930, messages=3 * 107).expected
    return workload(
        tokens_per_epoch=tokens,
        samples=107,
        row_tokens=2048,
        rows_per_step=16,
        epochs=4,
        eval_rows=19,
        eval_every_steps=7,
        save_every_steps=7,
    )


@pytest.fixture
def large_job() -> Workload:
    """Twenty million tokens of short samples, once through."""
    return workload(
        tokens_per_epoch=20_000_000,
        samples=60_000,
        row_tokens=2048,
        rows_per_step=16,
        epochs=1,
        eval_rows=200,
        eval_every_steps=200,
        save_every_steps=200,
        save_every_s=600,
    )


@pytest.fixture
def snapshot_day() -> float:
    """The day for which the bundled prices' ages are judged in these tests."""
    return datetime(2026, 11, 23, tzinfo=UTC).timestamp()


@pytest.fixture
def plan(
    requirements: Requirements,
    small_job: Workload,
    olmo: ModelShape,
    recipe: Recipe,
    snapshot_day: float,
) -> Callable[..., Plan]:
    """Makes a plan: the small job by default."""

    def make(
        *offers: Offer,
        needs: Requirements | None = None,
        job: Workload | None = None,
        beside: Sequence[Task] = (),
        **settings: Any,
    ) -> Plan:
        return make_plan(
            needs or requirements,
            offers,
            [Task(job or small_job, olmo, recipe), *beside],
            Settings(now=snapshot_day, **settings),
        )

    return make
