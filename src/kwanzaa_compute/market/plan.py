"""Which machine does the whole run cheapest, and why every other one is out.

A plan weighs a hundred thousand offers in a third of a second: what depends on the kind of machine
alone is worked out once for each kind, prices are whole micro-dollars, and candidates and
refusals are put into words when somebody looks at them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from kwanzaa_compute.market.candidates import Candidate, Reason, Refusal
from kwanzaa_compute.market.costs import Extras
from kwanzaa_compute.market.offers import Offer, Precision, Requirements
from kwanzaa_compute.market.quotes import Asked, Settings, Task
from kwanzaa_compute.market.recipe import Recipe, recipe_from_config
from kwanzaa_compute.market.scenarios import runs_per_budget
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.sizing import (
    LIBRARIES_GIB,
    SCRATCH_GIB,
    Sizing,
    disk_needed,
    least_memory,
)
from kwanzaa_compute.market.speed import SpeedReceipt
from kwanzaa_compute.market.weighing import Lazily, Weighed
from kwanzaa_compute.market.workload import Workload

if TYPE_CHECKING:
    from kwanzaa_compute.config import TrainingConfig

__all__ = [
    "Candidate",
    "Extras",
    "Plan",
    "Reason",
    "Refusal",
    "Settings",
    "Task",
    "make_plan",
    "requirements_for",
    "settings_for",
    "together",
]


_MICRO_DOLLAR = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Plan:
    """Every offer, either ranked by what the whole run would cost or refused with its reason.

    `sizing` is the memory that the run needs, line by line; `made_at` seconds since the epoch.
    """

    candidates: Sequence[Candidate]
    refused: Sequence[Refusal]
    requirements: Requirements
    workload: Workload
    sizing: Sizing
    made_at: float | None = None

    @property
    def best(self) -> Candidate | None:
        """The candidate that is expected to do the whole run cheapest; None if nothing fits."""
        return self.candidates[0] if self.candidates else None

    def runs_per_budget(self, budget_usd: Decimal, *, success_rate: Decimal = Decimal(1)) -> int:
        """How many (successful) runs the budget pays for on the best candidate; 0 if none fits.

        Raises ValueError where the best candidate is this very machine: there is no limit then.
        """
        if self.best is None:
            return 0
        return runs_per_budget(budget_usd, self.best.usd.expected, success_rate=success_rate)

    def spot_ceiling(self, candidate: Candidate) -> Decimal | None:
        """The hourly price from which a spot candidate loses to the best on-demand machine.

        None where the candidate is not on spot, or nothing on-demand fits the run.
        """
        steady = next((c for c in self.candidates if not c.offer.spot and c.usd.expected), None)
        if not candidate.offer.spot or steady is None:
            return None
        paid = {line.what: line.usd for line in candidate.lines}
        before_buffer = candidate.usd.expected - paid.get("buffer", Decimal(0))
        fixed = paid.get("disk", Decimal(0)) + paid.get("data out", Decimal(0))
        left = steady.usd.expected * before_buffer / candidate.usd.expected - fixed
        ceiling = left / Decimal(candidate.billed_hours)
        return max(Decimal(0), ceiling.quantize(_MICRO_DOLLAR, ROUND_FLOOR))

    def to_json(self) -> str:
        """The plan as JSON, to be saved and applied later."""
        from kwanzaa_compute.market.saved import plan_to_json

        return plan_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """A saved plan. Raises UsageError where it is no plan, or one of another version."""
        from kwanzaa_compute.market.saved import plan_from_json

        return plan_from_json(text)


def requirements_for(
    config: "TrainingConfig",
    shape: ModelShape,
    *,
    recipe: Recipe | None = None,
    features: frozenset[str] = frozenset(),
) -> Requirements:
    """What a validated training.yaml asks of a machine, its limits and wishes included."""
    recipe = recipe or recipe_from_config(config)
    compute = config.compute
    return Requirements(
        vram_gib=least_memory(shape, recipe).total_gib,
        disk_gib=disk_needed(shape, recipe).total_gib,
        precision=(
            Precision.BF16_PREFERRED if recipe.compute == "bf16" else Precision.FP16_ALLOWED
        ),
        max_usd=compute.max_usd,
        max_hours=compute.max_hours,
        deadline_h=compute.deadline_hours,
        spot=compute.spot,
        gpu=compute.gpu,
        features=features,
    )


def settings_for(
    config: "TrainingConfig",
    *,
    now: float | None = None,
    receipts: tuple[SpeedReceipt, ...] = (),
    cached: frozenset[str] = frozenset(),
    features: Mapping[str, frozenset[str]] | None = None,
    validation_h: float = 0.0,
    experimentation_h: float = 0.0,
) -> Settings:
    """What a validated training.yaml says of providers and buffer, beside what the caller knows."""
    compute = config.compute
    return Settings(
        now=now,
        extras=Extras(
            validation_h=validation_h,
            experimentation_h=experimentation_h,
            buffer=Decimal(str(compute.buffer_fraction)),
        ),
        providers=compute.provider or (),
        cached=cached,
        features=features or {},
        receipts=receipts,
    )


def together(required: Sequence[Requirements]) -> Requirements:
    """What one machine must have for several adapters of one config, each with its own base.

    Memory for the largest, since each trains alone on its GPU; disk for all.
    """
    shared_gib = (LIBRARIES_GIB + SCRATCH_GIB) * (len(required) - 1)
    return replace(
        required[0],
        vram_gib=max(one.vram_gib for one in required),
        disk_gib=sum(one.disk_gib for one in required) - shared_gib,
    )


def make_plan(
    requirements: Requirements,
    offers: Iterable[Offer],
    tasks: Task | Sequence[Task],
    settings: Settings | None = None,
) -> Plan:
    """Ranks every offer by the expected cost of the whole run, or refuses it with a reason.

    Equal costs are ranked by time, then by memory. Of several tasks one is done on each GPU of
    the machine, the others in turn. Nothing is bought, asked or read here.
    """
    settings = settings or Settings()
    tasks = (tasks,) if isinstance(tasks, Task) else tuple(tasks)
    asked = Asked(requirements, tasks, settings)
    weighed = Weighed(asked, tuple(offers))
    sizings = (least_memory(task.shape, task.recipe) for task in tasks)
    return Plan(
        Lazily(len(weighed.ranked), weighed.candidate),
        Lazily(len(weighed.refused), weighed.refusal),
        requirements,
        tasks[0].workload,
        max(sizings, key=lambda sizing: sizing.total_gib),
        settings.now,
    )
