"""How a step is cut to fit the memory that there is, and what to do when it did not. No torch.

The ladder itself lies in `market.sizing`, where the price of a run is worked out from it as well.
A step keeps its rows on every rung, so a run may change rungs at any whole step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.market.recipe import FAST, REFERENCE, Recipe, recipe_from_config
from kwanzaa_compute.market.shapes import ModelShape, shape_from_config_json
from kwanzaa_compute.market.sizing import Rung, memory_needed
from kwanzaa_compute.market.sizing import ladder as sizing_ladder

OWN_WORDS = "as the config says"
SHARDED_AS_TOLD = "training.shard_base is always"


class ShortOfMemoryError(Exception):
    """A micro-batch did not fit; nothing was changed, and the step can be taken again."""


class StepLostError(Exception):
    """Memory ended while the optimizer moved the parameters: some have moved, some have not.

    Nothing here can take that back, but the newest checkpoint can: another try resumes from it.
    """


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
    pieces: int = 1
    """On how many cards each block's frozen weights are spread; 1: each card has all of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A footing with the reason it was taken."""

    footing: Footing
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """What decides how much memory a run takes: its config, its base, and how it computes.

    `base` is the base's config.json; `compute` is "bf16", "fp16" or "fp32".
    """

    config: TrainingConfig
    base: Mapping[str, Any]
    compute: str
    why_not_fast: str
    """Why the reference path is expected; "" where the fast one is."""
    cards: int = 1
    """How many GPUs share the rows of every step."""

    @property
    def is_fast(self) -> bool:
        """Whether the fast path is expected."""
        return not self.why_not_fast

    @property
    def shape(self) -> ModelShape | None:
        """The base's shape; None where its config.json does not say it."""
        try:
            return shape_from_config_json(self.base)
        except ValueError:
            return None

    def on(self, footing: Footing) -> "Case":
        """The case on that footing: a base in pieces is gathered by transformers' own forward."""
        if footing.pieces == 1:
            return self
        return replace(self, why_not_fast=f"the base is in pieces on {footing.pieces} cards")

    def recipe(self) -> Recipe:
        """One card's part of the config's recipe, one row at a time: what the rungs multiply."""
        whole = replace(
            recipe_from_config(self.config),
            rows_per_micro_batch=1,
            accumulation=self.config.training.rows_per_step,
            compute=self.compute,
        )
        return whole.shared_by(self.cards)


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


def choose(case: Case, available_gib: float) -> Choice:
    """The fastest rung that fits into so much memory, the driver's share included.

    Where the config wants it as written, or the base's shape cannot be read, it is as written;
    where nothing fits, the most frugal rung is tried. Of several cards of so much memory, every
    one holds the whole base where that fits on any rung; else its weights are spread over all of
    them, unless the config forbids it. The reason says so.
    """
    cards = case.cards
    wish = case.config.training.shard_base if cards > 1 else "never"
    if wish == "always":
        choice = _best(case, available_gib, cards)
        return replace(choice, reason=f"{SHARDED_AS_TOLD}; {choice.reason}")
    whole = _best(case, available_gib, 1)
    if wish == "never" or whole.footing.needs_gib <= available_gib:
        return whole
    spread = _best(case, available_gib, cards)
    if spread.footing.needs_gib > available_gib:
        return whole
    need = whole.footing.needs_gib
    return replace(spread, reason=f"one card alone would need {need:.1f} GiB; {spread.reason}")


def _best(case: Case, available_gib: float, pieces: int) -> Choice:
    """The fastest rung that fits with the base in so many pieces; the most frugal if none does."""
    mine = replace(as_written(case.config), pieces=pieces)
    if case.config.training.memory_plan == "as_written":
        return Choice(mine, "training.memory_plan is as_written")
    rungs = ladder(case, pieces)
    if not rungs:
        return Choice(mine, "the base's config.json does not say its shape")
    there = f"{available_gib:.1f} GiB are there"
    best = next((rung for rung in rungs if rung.needs_gib <= available_gib), None)
    if best is None:
        last = min(rungs, key=lambda rung: rung.needs_gib)
        return Choice(last, f"{there} and the least needs {last.needs_gib:.1f}; trying it")
    why = f"needs {best.needs_gib:.1f} GiB, {there}"
    faster = rungs[: rungs.index(best)]
    if faster:
        why += f"; {faster[-1].name} would need {faster[-1].needs_gib:.1f}"
    return Choice(best, why)


@dataclass(frozen=True, slots=True)
class Abreast:
    """How many adapters go at once, each on that footing, with the reason."""

    adapters: int
    footing: Footing
    reason: str


def choose_abreast(
    case: Case, adapters: int, available_gib: float, *, shares_rows: bool
) -> Abreast:
    """How many of so many adapters of one base go at once in that memory, and on which footing.

    They stand where one alone would, each with its rows at a time: fewer rows of more adapters are
    a little slower. With `shares_rows` those rows are shared out all the same, so that more fit.
    `case` is the one of them that takes most memory.
    """
    alone = choose(case, available_gib)
    for number in range(adapters, 1, -1):
        rows = max(1, alone.footing.rows // number) if shares_rows else alone.footing.rows
        each = _with_rows(alone.footing, rows)
        needs_gib = _needs(case, each, number)
        if 0 < needs_gib <= available_gib:
            words = f"{number} adapters at once need {needs_gib:.1f} GiB"
            return Abreast(number, each, f"{words}, {available_gib:.1f} are there")
    rows = 1 if shares_rows else alone.footing.rows
    two = _needs(case, _with_rows(alone.footing, rows), 2)
    words = f"two at once would need {two:.1f} GiB" if two else "how much two need is not known"
    return Abreast(1, alone.footing, f"{words}; {alone.reason}")


def _with_rows(footing: Footing, rows: int) -> Footing:
    name = Rung(footing.quantised, footing.recompute_every, rows).name
    return replace(footing, rows=rows, name=name, needs_gib=0.0)


def lower(case: Case, now: Footing) -> Footing | None:
    """The next rung that takes less memory than `now`; None where there is none.

    A base that is in 4 bits stays so: on the way down nothing is loaded anew without need.
    """
    needs = now.needs_gib or _needs(case, now)
    return next(
        (
            rung
            for rung in ladder(case, now.pieces)
            if rung.needs_gib < needs and rung.quantised >= now.quantised
        ),
        None,
    )


def ladder(case: Case, pieces: int = 1) -> list[Footing]:
    """Every rung that this case allows, fastest first; empty where the shape is unknown.

    In several `pieces`, each card holds its share of the blocks' weights.
    """
    shape = case.shape
    if shape is None:
        return []
    fast = case.is_fast and pieces == 1
    return [
        Footing(
            rung.quantised,
            rung.recompute_every,
            on_rung.rows_per_micro_batch,
            rung.name,
            sizing.total_gib,
            pieces,
        )
        for rung, on_rung, sizing in sizing_ladder(shape, case.recipe(), fast=fast, pieces=pieces)
    ]


def _needs(case: Case, footing: Footing, adapters: int = 1) -> float:
    path = FAST if case.is_fast else REFERENCE
    rung = Rung(footing.quantised, footing.recompute_every, footing.rows, path, footing.pieces)
    shape, on_rung = case.shape, rung.applied(case.recipe())
    if not shape or not on_rung:
        return 0.0
    rows = on_rung.rows_per_micro_batch * adapters
    together = replace(on_rung, rows_per_micro_batch=rows, adapters=adapters)
    return memory_needed(shape, together).total_gib
