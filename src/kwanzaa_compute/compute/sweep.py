"""A sweep: a config on several base models, or several configs, planned together under one cap.

One run that trains them all shares a machine's set-up, and a machine of several GPUs trains one
on each; but its machine must hold the largest of them. So both ways are weighed, all in one run
and each in a run of its own, and the cheaper one is taken.

Adapters of one base that a GPU trains at once are weighed as if they were trained one after the
other, each with no more rows at a time than it has there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.compute.offers import ForSale
from kwanzaa_compute.compute.planning import (
    Options,
    Planned,
    Work,
    ask_for,
    read_work,
    weigh,
)
from kwanzaa_compute.config import LoadedConfig, notes_for
from kwanzaa_compute.errors import UsageError

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

Source = Path | str | LoadedConfig
"""A config: its file, or what was read from it."""

_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep would cost either way. `runs` is the cheaper one: one run of all, or many.

    `together_usd` and `apart_usd` are expected dollars; None where that way is not possible.
    """

    runs: tuple[Planned, ...]
    expected_usd: tuple[Decimal, ...]
    """What each of these runs is expected to cost."""
    names: tuple[str, ...]
    """The adapters, in their order; their folders are called so."""
    together_usd: Decimal | None
    apart_usd: Decimal | None
    max_usd: Decimal | None
    """The cap on all of it."""

    @property
    def is_together(self) -> bool:
        """Whether one run trains them all."""
        return len(self.runs) == 1

    def next_run(self, number: int, spent_usd: Decimal) -> Planned:
        """The run of that number (from 0), with its share of what is left of the cap.

        A share is as large as what the run is expected to cost beside those that come after it;
        the last one gets all that is left.
        """
        planned = self.runs[number]
        if self.max_usd is None:
            return planned
        costs = self.expected_usd[number:]
        left = max(Decimal(0), self.max_usd - spent_usd)
        share = left * costs[0] / sum(costs) if sum(costs) else left
        return _changed(planned, "compute", max_usd=share)


def plan_sweep(
    compute: "Compute",
    configs: Sequence[Source],
    base_models: Sequence[str],
    options: Options,
    *,
    always_together: bool = False,
) -> Sweep:
    """Weighs one run of all adapters against a run for each, and takes the cheaper way.

    There is an adapter for each config on each of the base models, or on its own base where none
    is named. Spends nothing. `always_together` leaves no choice. Raises `UsageError` for fewer than
    two adapters, or one that is named twice; `ConfigError` or `DataError` as `plan_run`.
    """
    pairs = [(config, base) for config in configs for base in base_models or (None,)]
    if len(pairs) < 2 or len(set(base_models)) < len(base_models) or _repeats(configs):  # noqa: PLR2004
        raise UsageError(
            "a sweep takes two base models or more, or two configs, each once",
            mend="kwanzaa sweep CONFIG --base-model A --base-model B, or kwanzaa sweep ONE OTHER",
        )
    works = [_work(compute, config, base, options) for config, base in pairs]
    for_sale = ask_for(compute, works[0], options)
    labels = [
        "-".join([w.loaded.config.run.name] * (len(configs) > 1) + ([_last(base)] if base else []))
        for w, (_, base) in zip(works, pairs, strict=True)
    ]
    names = member_names(labels)
    together = _planned(compute, _sharing(works), for_sale, options)
    together = replace(together, members=dict(zip(names, works, strict=True)))
    apart = [_planned(compute, [work], for_sale, options) for work in works]
    whole = _cost(compute, together)
    costs = [_cost(compute, planned) for planned in apart]
    known = [cost for cost in costs if cost is not None]
    parts = sum(known, Decimal(0)) if len(known) == len(apart) else None
    cap = together.max_usd
    if always_together or not _is_better(parts, whole, cap):
        return Sweep((together,), (whole or Decimal(0),), names, whole, parts, cap)
    runs = [_into(planned, name) for planned, name in zip(apart, names, strict=True)]
    return Sweep(tuple(runs), tuple(known), names, whole, parts, cap)


def _is_better(apart: Decimal | None, together: Decimal | None, cap: Decimal | None) -> bool:
    """Whether a run for each is possible, within the cap, and cheaper than one for all."""
    if apart is None or (cap is not None and apart > cap):
        return False
    return together is None or apart < together


def member_names(base_models: Sequence[str]) -> tuple[str, ...]:
    """Names for the adapters' folders: the models' or configs' own, without path, each once."""
    found: list[str] = []
    for model in base_models:
        name = re.sub(r"[^a-z0-9]+", "-", _last(model).lower())[:_LONGEST_NAME].strip("-") or "base"
        number = 2
        unique = name
        while unique in found:
            unique, number = f"{name}-{number}", number + 1
        found.append(unique)
    return tuple(found)


def _sharing(works: Sequence[Work]) -> list[Work]:
    """The same, those of one base with the rows at a time that each has where they share them."""
    shared = []
    for work in works:
        wish = work.loaded.config.training.adapters_at_once
        alike = sum(other.task.base == work.task.base for other in works)
        number = 1 if wish == "auto" else min(wish, alike)
        recipe = replace(work.task.recipe, rows_shared_by=number)
        shared.append(replace(work, task=replace(work.task, recipe=recipe)))
    return shared


def _last(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]


def _repeats(configs: Sequence[Source]) -> bool:
    paths = [str(config) for config in configs if not isinstance(config, LoadedConfig)]
    return len(set(paths)) < len(paths)


def _work(compute: "Compute", config: Source, base: str | None, options: Options) -> Work:
    overrides = dict(options.overrides)
    if base is not None:
        overrides["model.base_model_id"] = base
    return read_work(compute, config, replace(options, overrides=overrides))


def _planned(
    compute: "Compute", works: Sequence[Work], for_sale: ForSale, options: Options
) -> Planned:
    first = works[0]
    plan = weigh(compute, works, for_sale, options)
    return Planned(plan, first.loaded, first.files, first.size, notes_for(first.loaded), for_sale)


def _cost(compute: "Compute", planned: Planned) -> Decimal | None:
    """Expected dollars on the best machine that can be had from here, else on the best of all."""
    live = planned.for_sale.live & compute.catalogue.providers.keys()
    here = (c for c in planned.plan.candidates if c.offer.provider in live)
    best = next(here, planned.plan.best)
    return best.usd.expected if best else None


def _into(planned: Planned, name: str) -> Planned:
    """The same with its adapter in a folder of its own."""
    output_dir = f"{planned.loaded.config.output_dir}/{name}"
    return _changed(planned, "artifacts", output_dir=output_dir)


def _changed(planned: Planned, section: str, **values: object) -> Planned:
    config = planned.loaded.config
    inner = getattr(config, section).model_copy(update=values)
    loaded = replace(planned.loaded, config=config.model_copy(update={section: inner}))
    return replace(planned, loaded=loaded)
