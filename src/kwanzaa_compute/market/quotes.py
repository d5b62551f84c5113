"""One quote for every kind of machine: all that does not depend on the price, worked out once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType

from kwanzaa_compute.market.answering import answering_s
from kwanzaa_compute.market.candidates import Detail, Reason
from kwanzaa_compute.market.costs import (
    Course,
    Courses,
    Extras,
    Paced,
    SetUp,
    billed_units,
    courses,
    disk_cost_micro,
    egress_micro,
    set_up,
)
from kwanzaa_compute.market.gpus import GPU, gpu_matches
from kwanzaa_compute.market.interruptions import NEVER, checkpoint_interval_s
from kwanzaa_compute.market.offers import Offer, Precision, Requirements
from kwanzaa_compute.market.recipe import Recipe, compute_on
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.sizing import LIBRARIES_GIB, memory_needed, recipe_on
from kwanzaa_compute.market.speed import Speed, SpeedReceipt, speed
from kwanzaa_compute.market.terms import Terms, terms_of
from kwanzaa_compute.market.workload import Workload

MAX_PRICE_AGE_DAYS = 270
STALE_AFTER_DAYS = 30


@dataclass(frozen=True, slots=True)
class Settings:
    """What a plan takes into account beside the run itself.

    `now` is in seconds since the epoch (None: prices' age is not looked at). Prices older than
    `max_price_age_days` are refused, older than `stale_after_days` marked. `cached` names the
    providers whose machines have the base model already. `features` says what each provider can
    do; one that is not named is judged by its terms alone. An empty `providers` means all.
    """

    now: float | None = None
    max_price_age_days: int = MAX_PRICE_AGE_DAYS
    stale_after_days: int = STALE_AFTER_DAYS
    extras: Extras = field(default_factory=Extras)
    providers: tuple[str, ...] = ()
    allow_attended: bool = False
    allow_arm: bool = False
    cached: frozenset[str] = frozenset()
    features: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    receipts: tuple[SpeedReceipt, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One adapter to be trained: on how much, from which base, by which recipe."""

    workload: Workload
    shape: ModelShape
    recipe: Recipe
    base: str = ""
    """What is downloaded; two tasks of the same base and shape download it once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that a plan is made from but the offers. A run has a task for each adapter."""

    requirements: Requirements
    tasks: tuple[Task, ...]
    settings: Settings

    @property
    def recipe(self) -> Recipe:
        """How the first adapter is trained; number formats are the same for all."""
        return self.tasks[0].recipe


@dataclass(frozen=True, slots=True)
class Pace:
    """What depends on the GPU alone: why it will not do, or how fast each task is on it."""

    refusal: tuple[Reason, Detail] | None
    tasks: tuple[Paced, ...] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """How the run goes on one kind of machine, in billed seconds; only the price is missing.

    `fixed_micro` is what is paid whatever the hourly price: disk and egress. `alone` refuses a
    spot machine that keeps the deadline only if on-demand can take over from it.
    """

    refusal: tuple[Reason, Detail] | None
    courses: Courses | None = None
    training: Speed | None = None
    billed_s: int = 0
    disk_micro: int = 0
    egress_micro: int = 0
    checkpoint_every_s: float | None = None
    alone: tuple[Reason, Detail] | None = None

    @property
    def fixed_micro(self) -> int:
        """What is paid whatever the hourly price."""
        return self.disk_micro + self.egress_micro


def cards_together(offer: Offer, asked: Asked) -> int:
    """How many of the machine's GPUs train one adapter: all of them, unless there are several.

    Several adapters are trained side by side, each on a GPU of its own.
    """
    wanted = max(1, asked.requirements.gpu_count)
    return max(wanted, offer.gpu_count) if len(asked.tasks) == 1 else wanted


def pace_of(gpu: GPU, asked: Asked, cards: int = 1) -> Pace:
    """Whether so many GPUs will do at all, and how fast they are. Done once for each kind."""
    refusal = _kind_refusal(gpu, asked)
    if refusal:
        return Pace(refusal)
    recipes = [recipe_on(task.shape, task.recipe, gpu, cards) for task in asked.tasks]
    refusal = _memory_refusal(gpu, asked, recipes)
    if refusal:
        return Pace(refusal)
    each = zip(asked.tasks, recipes, strict=True)
    return Pace(None, tuple(_paced(task, recipe, gpu, asked, cards) for task, recipe in each))


def _paced(task: Task, recipe: Recipe, gpu: GPU, asked: Asked, cards: int) -> Paced:
    receipts = asked.settings.receipts
    training, evaluating = (
        speed(task.shape, recipe, gpu, gpu_count=cards, training=mode, receipts=receipts)
        for mode in (True, False)
    )
    training = training.scaled(task.recipe.evenness(cards))
    answering = answering_s(task.shape, recipe, gpu, task.workload.answers)
    return Paced(task.workload, training, evaluating, answering)


def _kind_refusal(gpu: GPU, asked: Asked) -> tuple[Reason, Detail] | None:
    wanted, settings = asked.requirements, asked.settings
    if wanted.gpu and not gpu_matches(gpu, wanted.gpu):
        return Reason.WRONG_GPU, (wanted.gpu,)
    if not gpu.known:
        return Reason.UNKNOWN_GPU, ()
    asked_for = settings.allow_arm or wanted.gpu  # here it is what was asked for by name
    if gpu.arch == "arm" and not gpu.is_cpu and not asked_for:
        return Reason.ARM, ()
    return None


def _memory_refusal(
    gpu: GPU, asked: Asked, recipes: Sequence[Recipe]
) -> tuple[Reason, Detail] | None:
    wanted = asked.requirements
    need = max(
        memory_needed(task.shape, recipe, on_gpu=not gpu.is_cpu).total_gib
        for task, recipe in zip(asked.tasks, recipes, strict=True)
    )
    # What is asked for at least is meant for a card that holds the whole base.
    is_spread = any(recipe.pieces > 1 for recipe in recipes)
    need = need if gpu.is_cpu or is_spread else max(need, wanted.vram_gib)
    if gpu.vram_gib < need:
        return Reason.VRAM, (need - gpu.vram_gib, need, gpu.vram_gib)
    if wanted.precision is Precision.BF16_REQUIRED and not gpu.bf16:
        return Reason.NO_BF16, ()
    return None


def quote(offer: Offer, pace: Pace, asked: Asked) -> Quote:
    """How the run goes on machines of this offer's kind, whatever they cost an hour."""
    refusal = _machine_refusal(offer, asked) or pace.refusal or _too_many(offer, asked)
    if refusal or not pace.tasks:
        return Quote(refusal)
    terms, settings = terms_of(offer.provider), asked.settings
    places = max(1, offer.gpu_count // cards_together(offer, asked))
    cached = settings.extras.model_cached or offer.provider in settings.cached
    went = courses(
        pace.tasks,
        _set_up(terms, asked.tasks, places, cached=cached),
        terms=terms,
        extras=settings.extras,
        places=places,
        spot=offer.spot,
    )
    refusal = _time_refusal(went, asked.requirements)
    if refusal:
        return Quote(refusal)
    return _priced_later(offer, went, pace.tasks[0].training, terms, asked)


def _set_up(terms: Terms, tasks: Sequence[Task], places: int, *, cached: bool) -> SetUp:
    """Booting and installing once, each base once through the one line, loading in each place."""
    alone = {
        (task.base, task.shape): set_up(terms, task.shape, task.recipe, cached=cached)
        for task in tasks
    }
    loads = [alone[task.base, task.shape].load_s for task in tasks]
    return replace(
        next(iter(alone.values())),
        download_s=sum(start.download_s for start in alone.values()),
        load_s=max(*loads, sum(loads) / places) if len(loads) > 1 else loads[0],
    )


def _priced_later(
    offer: Offer, went: Courses, training: Speed, terms: Terms, asked: Asked
) -> Quote:
    extras = asked.settings.extras
    billed_s = billed_units(went.expected.billed_s, offer.billing_step_s, offer.minimum_s)
    rate = extras.interruptions_per_h
    rate = terms.interruptions_per_h if rate is None else rate
    return Quote(
        None,
        went,
        training,
        billed_s,
        disk_cost_micro(offer.disk_usd_per_gib_hour, asked.requirements.disk_gib, billed_s),
        egress_micro(terms, ((task.shape, task.recipe) for task in asked.tasks)),
        checkpoint_interval_s(extras.save_s, rate) if offer.spot and rate >= NEVER else None,
        _refusal_alone(offer, went, asked.requirements),
    )


def _machine_refusal(offer: Offer, asked: Asked) -> tuple[Reason, Detail] | None:
    """Why this kind of machine will not do, whatever its GPU."""
    return _unwanted(offer, asked) or _too_small(offer, asked.requirements)


def _unwanted(offer: Offer, asked: Asked) -> tuple[Reason, Detail] | None:
    wanted, settings = asked.requirements, asked.settings
    named = offer.provider in settings.providers
    if settings.providers and not named:
        return Reason.PROVIDER, (" or ".join(settings.providers),)
    if offer.attended and not settings.allow_attended and not named:
        return Reason.ATTENDED, ()
    missing = _missing_features(offer.provider, asked)
    if missing:
        return Reason.FEATURES, (", ".join(sorted(missing)),)
    if not offer.own_machine and wanted.spot is not None and offer.spot is not wanted.spot:
        return _other_market(offer.provider, asked), ()
    return None


def _other_market(provider: str, asked: Asked) -> Reason:
    """Why an offer of the other market will not do; a provider that has but one is named."""
    if not asked.requirements.spot:
        return Reason.ON_DEMAND_ONLY
    known = asked.settings.features.get(provider)
    return Reason.SPOT_ONLY if known is None or "spot" in known else Reason.NO_SPOT


def _too_small(offer: Offer, wanted: Requirements) -> tuple[Reason, Detail] | None:
    if offer.gpu_count < wanted.gpu_count:
        return Reason.GPU_COUNT, (offer.gpu_count, wanted.gpu_count)
    # This very machine has its libraries installed already.
    disk_gib = wanted.disk_gib - (LIBRARIES_GIB if offer.own_machine else 0.0)
    if offer.disk_gib is not None and offer.disk_gib < disk_gib:
        return Reason.DISK, (disk_gib - offer.disk_gib, disk_gib, offer.disk_gib)
    return None


def _too_many(offer: Offer, asked: Asked) -> tuple[Reason, Detail] | None:
    """Several machines are slower than we can tell where a base lies in pieces on them."""
    if offer.machines == 1:
        return None
    cards = cards_together(offer, asked)
    is_spread = any(
        recipe_on(task.shape, task.recipe, offer.gpu, cards).pieces > 1 for task in asked.tasks
    )
    return (
        (Reason.SEVERAL_MACHINES, (offer.machines,)) if is_spread or len(asked.tasks) > 1 else None
    )


def _missing_features(provider: str, asked: Asked) -> frozenset[str]:
    required = asked.requirements.features
    known = asked.settings.features.get(provider)
    return required - known if known is not None else required & terms_of(provider).lacks


def _time_refusal(went: Courses, wanted: Requirements) -> tuple[Reason, Detail] | None:
    expected_h = went.expected.wall_s / 3600
    billed_h = went.expected.billed_s / 3600
    if wanted.max_hours is not None and billed_h > wanted.max_hours:
        return Reason.TOO_LONG, (billed_h, wanted.max_hours)
    if wanted.deadline_h is not None and expected_h > wanted.deadline_h:
        return Reason.DEADLINE, (expected_h, wanted.deadline_h)
    return None


def _refusal_alone(
    offer: Offer, went: Courses, wanted: Requirements
) -> tuple[Reason, Detail] | None:
    late_h = went.p95.wall_s / 3600
    if offer.spot and wanted.deadline_h is not None and late_h > wanted.deadline_h:
        return Reason.SPOT_DEADLINE, (late_h, wanted.deadline_h)
    return None


def course_seconds(course: Course, offer: Offer) -> int:
    """What a course puts on this offer's bill, rounded up to its billing step."""
    return billed_units(course.billed_s, offer.billing_step_s, offer.minimum_s)


def with_buffer(micro: int, buffer: Decimal) -> int:
    """The amount with the buffer on top, rounded up to a whole micro-dollar."""
    if buffer <= 0:
        return micro
    numerator, denominator = buffer.as_integer_ratio()
    return micro + -(-micro * numerator // denominator)


def fallback_mark(gpu: GPU, asked: Asked) -> str | None:
    """What to say where the GPU cannot compute in the format that was asked for."""
    used = compute_on(asked.recipe, gpu)
    if used == asked.recipe.compute or gpu.is_cpu:
        return None
    return f"computes in {used}: {gpu.name} has no {asked.recipe.compute}"
