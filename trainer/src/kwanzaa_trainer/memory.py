"""How a step is cut to fit the memory that there is, and what to do when it did not. No torch.

The ladder itself lies in `market.sizing`, where the price of a run is worked out from it as well.
A step keeps its rows on every rung, so a run may change rungs at any whole step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.market.recipe import FUSED, REFERENCE, Recipe, recipe_from_config
from kwanzaa_compute.market.shapes import ModelShape, shape_from_config_json
from kwanzaa_compute.market.sizing import LADDER, Rung, memory_needed

OWN_WORDS = "as the config says"


class ShortOfMemoryError(Exception):
    """A micro-batch did not fit; nothing was changed, and the step can be taken again."""


@dataclass(frozen=True, slots=True)
class Footing:
    """What a run stands on: how its base is stored and how its steps are cut."""

    quantised: bool
    recompute_every: int
    """Every so many-th block is computed again on the way back; 0 none, 1 all."""
    rows: int
    """Rows in a micro-batch."""
    name: str
    needs_gib: float
    """Predicted peak on a GPU, with the driver's share; 0 where the shape is unknown."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A footing with the reason it was taken."""

    footing: Footing
    reason: str


def as_written(config: TrainingConfig) -> Footing:
    """What the config says itself."""
    training = config.training
    return Footing(
        config.adapter.quantized,
        1 if training.gradient_checkpointing else 0,
        training.per_device_train_batch_size,
        OWN_WORDS,
        0.0,
    )


def choose(
    config: TrainingConfig, base: Mapping[str, Any], available_gib: float, compute: str
) -> Choice:
    """The fastest rung that fits into so much memory, the driver's share included.

    `base` is the base's config.json. Where the config wants it as written, or nothing fits, or the
    base's shape cannot be read, it is as written, with that reason.
    """
    mine = as_written(config)
    if config.training.memory_plan == "as_written":
        return Choice(mine, "training.memory_plan is as_written")
    rungs = ladder(config, base, compute)
    if not rungs:
        return Choice(mine, "the base's config.json does not say its shape")
    fitting = [rung for rung in rungs if rung.needs_gib <= available_gib]
    there = f"{available_gib:.1f} GiB are free"
    if not fitting:
        least = min(rung.needs_gib for rung in rungs)
        return Choice(rungs[-1], f"{there} and the least is said to need {least:.1f}; trying it")
    best = fitting[0]
    faster = rungs[: rungs.index(best)]
    why = f"needs {best.needs_gib:.1f} GiB, {there}"
    if faster:
        why += f"; {faster[-1].name} would need {faster[-1].needs_gib:.1f}"
    return Choice(best, why)


def lower(
    config: TrainingConfig, base: Mapping[str, Any], now: Footing, compute: str
) -> Footing | None:
    """The next rung that takes less memory than `now`; None where there is none."""
    rungs = ladder(config, base, compute)
    needs = now.needs_gib or _needs(config, base, now, compute)
    smaller = [rung for rung in rungs if rung.needs_gib < needs - 0.01]
    return smaller[0] if smaller else None


def ladder(config: TrainingConfig, base: Mapping[str, Any], compute: str) -> list[Footing]:
    """Every rung that this config allows, fastest first; empty where the shape is unknown.

    `adapter.method: lora` means a base that is not quantised; qlora may be either way, because 16
    bits are what its 4 stand for.
    """
    shape = _shape(base)
    if shape is None:
        return []
    recipe = _recipe(config, compute)
    found = []
    for rung in LADDER:
        fitted = _allowed(rung, config)
        on_rung = fitted.applied(recipe)
        if on_rung is None:
            continue
        footing = Footing(
            fitted.quantised,
            fitted.recompute_every,
            on_rung.rows_per_micro_batch,
            fitted.name,
            memory_needed(shape, on_rung).total_gib,
        )
        if footing not in found:
            found.append(footing)
    return found


def _allowed(rung: Rung, config: TrainingConfig) -> Rung:
    path = FUSED if config.training.fast_path != "never" else REFERENCE
    quantised = rung.quantised and config.adapter.quantized
    return replace(rung, quantised=quantised, path=path)


def _recipe(config: TrainingConfig, compute: str) -> Recipe:
    """The config's recipe with one row at a time: what the ladder's rungs multiply."""
    return replace(
        recipe_from_config(config),
        rows_per_micro_batch=1,
        accumulation=config.training.rows_per_step,
        compute=compute,
    )


def _needs(
    config: TrainingConfig, base: Mapping[str, Any], footing: Footing, compute: str
) -> float:
    shape = _shape(base)
    if shape is None:
        return 0.0
    rung = _allowed(Rung(footing.quantised, footing.recompute_every, footing.rows), config)
    on_rung = rung.applied(_recipe(config, compute))
    return 0.0 if on_rung is None else memory_needed(shape, on_rung).total_gib


def _shape(base: Mapping[str, Any]) -> ModelShape | None:
    try:
        return shape_from_config_json(base)
    except ValueError:
        return None
