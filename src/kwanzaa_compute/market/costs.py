"""What the whole run costs on one kind of machine: every part, expected, P95 and worst.

Money is whole micro-dollars inside, because a plan weighs a hundred thousand offers, and Decimal
dollars outside. Times are seconds inside.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from kwanzaa_compute.market.answering import NOTHING, Span
from kwanzaa_compute.market.interruptions import expected_with_interruptions, interruptions_at
from kwanzaa_compute.market.recipe import Recipe
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.speed import Speed
from kwanzaa_compute.market.terms import Terms
from kwanzaa_compute.market.workload import Workload

MICRO = 1_000_000
GB = 1e9

LOAD_MB_S = 1500.0
"""Reading a downloaded checkpoint into GPU memory; measured far above this from a warm cache."""
LOAD_FIXED_S = 20.0
SMALL_LOAD_FIXED_S = 5.0
SMALL_MODEL_BYTES = 0.5e9
"""Below it, loading is little more than importing torch."""
SAVE_S = 5.0
"""One checkpoint of a LoRA adapter to object storage (0.3 GB), while training waits; assumed."""
REQUEUE_S = 300.0
"""Waiting for a new machine after an interruption; passes without being billed; assumed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hours: if all goes well, to expect, and if it does not (1 in 20)."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars for the whole run: to expect, exceeded 1 in 20 times, and the most."""

    expected: Decimal
    p95: Decimal
    worst: Decimal


@dataclass(frozen=True, slots=True)
class CostLine:
    """One part of the bill: what it is, how long it takes and what it costs."""

    what: str
    seconds: float
    usd: Decimal
    why: str = ""


@dataclass(frozen=True, slots=True)
class Extras:
    """What is done and paid beside training. Hours, and `buffer` as a fraction of the bill.

    `validation_h` and `experimentation_h` are hours on the same machine. `save_s` is what one
    checkpoint takes. `interruptions_per_h` replaces the provider's own figure for spot machines.
    """

    validation_h: float = 0.0
    experimentation_h: float = 0.0
    buffer: Decimal = Decimal(0)
    save_s: float = SAVE_S
    interruptions_per_h: float | None = None
    model_cached: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """The useful seconds of a run at one speed, and how it is saved meanwhile.

    A checkpoint is taken every `interval_s` seconds of work and takes `save_s`. `answering_s` are
    the generated answers at the end.
    """

    training_s: float
    evaluation_s: float
    interval_s: float
    save_s: float
    answering_s: float = 0.0

    @property
    def useful_s(self) -> float:
        """Training, evaluation and answers."""
        return self.training_s + self.evaluation_s + self.answering_s

    @property
    def saving_s(self) -> float:
        """All checkpoints together."""
        return self.useful_s / self.interval_s * self.save_s

    @property
    def total_s(self) -> float:
        """All of it, if nothing interrupts."""
        return self.useful_s + self.saving_s


@dataclass(frozen=True, slots=True)
class SetUp:
    """Seconds until the first step; `queue_s` is not billed, the others are."""

    queue_s: float
    boot_s: float
    image_s: float
    install_s: float
    download_s: float
    load_s: float

    @property
    def billed_s(self) -> float:
        """What of it is on the bill."""
        return self.boot_s + self.image_s + self.install_s + self.download_s + self.load_s

    def slower(self, factor: float) -> "SetUp":
        """The same on a bad day."""
        return SetUp(
            self.queue_s * factor,
            self.boot_s * factor,
            self.image_s * factor,
            self.install_s * factor,
            self.download_s * factor,
            self.load_s * factor,
        )


def set_up(terms: Terms, shape: ModelShape, recipe: Recipe, *, cached: bool = False) -> SetUp:
    """How long a fresh machine takes until its first step; `cached` if it has the base model."""
    megabytes = shape.download_bytes / 1e6
    small = shape.linear_params * recipe.linear_bytes_per_param < SMALL_MODEL_BYTES
    return SetUp(
        terms.queue_s,
        terms.boot_s,
        terms.image_s,
        terms.install_s,
        0.0 if cached else megabytes / terms.download_mb_s,
        (SMALL_LOAD_FIXED_S if small else LOAD_FIXED_S) + megabytes / LOAD_MB_S,
    )


def work(
    workload: Workload,
    training: float,
    evaluating: float,
    *,
    save_s: float = SAVE_S,
    answering_s: float = 0.0,
) -> Work:
    """The useful seconds at so many tokens a second of training and of evaluation.

    The answers come on top; they need no checkpoint of their own.
    """
    training_s = workload.computed_tokens / training
    useful_s = training_s + workload.eval_tokens / evaluating
    interval = useful_s
    if workload.save_every_steps:
        interval = useful_s * workload.save_every_steps / max(1, workload.steps)
    if workload.save_every_s:
        interval = min(interval, workload.save_every_s)
    return Work(
        training_s,
        useful_s - training_s,
        max(1.0, min(interval, useful_s)),
        save_s,
        answering_s,
    )


def side_by_side(works: Sequence[Work], places: int) -> Work:
    """The work of the place that is busy longest, where each takes the next as it gets free."""
    if len(works) == 1:
        return works[0]
    queues: list[list[Work]] = [[] for _ in range(min(places, len(works)))]
    for one in works:
        min(queues, key=lambda queue: sum(w.total_s for w in queue)).append(one)
    longest = max(queues, key=lambda queue: sum(w.total_s for w in queue))
    training_s, useful_s = sum(w.training_s for w in longest), sum(w.useful_s for w in longest)
    evaluation_s, answering_s = (
        sum(w.evaluation_s for w in longest),
        sum(w.answering_s for w in longest),
    )
    checkpoints = sum(w.useful_s / w.interval_s for w in longest)
    return Work(training_s, evaluation_s, useful_s / checkpoints, longest[0].save_s, answering_s)


@dataclass(frozen=True, slots=True)
class Paced:
    """One adapter's work, and how fast a machine trains, evaluates and questions it."""

    workload: Workload
    training: Speed
    evaluating: Speed
    answering: Span = NOTHING


@dataclass(frozen=True, slots=True)
class Course:
    """How one run may go on one kind of machine: billed and wall seconds, before rounding."""

    billed_s: float
    wall_s: float
    parts: tuple[tuple[str, float, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Courses:
    """The three courses that are priced, and the quickest that can be hoped for."""

    best: Course
    expected: Course
    p95: Course
    worst: Course


def courses(
    paced: Sequence[Paced],
    start: SetUp,
    *,
    terms: Terms,
    extras: Extras,
    places: int = 1,
    spot: bool = False,
) -> Courses:
    """How the run may go: at the fast end, as expected, one time in twenty, and at worst.

    A run of several adapters trains so many of them at once as the machine has `places`.
    """
    rate = 0.0
    if spot:
        given = extras.interruptions_per_h
        rate = terms.interruptions_per_h if given is None else given
    paid_h = (extras.validation_h + extras.experimentation_h) * 3600
    slow = start.slower(terms.slow_factor)
    usual, quick, late = (
        _work_at(end, paced, extras.save_s, places) for end in ("expected", "high", "low")
    )
    fixed_s = terms.after_s + paid_h
    expected = _expected(usual, start, rate, terms, extras)
    mean = rate * (expected.billed_s - paid_h) / 3600
    best_s = quick.total_s + start.billed_s + fixed_s
    p95 = _unlucky(late, slow, interruptions_at(0.95, mean), 0.5, fixed_s)
    # A machine that turns out bad is given back, and all begins once more.
    worst = _unlucky(late, slow, interruptions_at(0.999, mean) + 1, 1.0, fixed_s)
    p95 = _at_least(p95, expected)
    return Courses(Course(best_s, best_s + start.queue_s), expected, p95, _at_least(worst, p95))


def _work_at(end: str, paced: Sequence[Paced], save_s: float, places: int) -> Work:
    """All of a machine's work at that end of its speeds."""
    works = [
        work(
            p.workload,
            getattr(p.training, end),
            getattr(p.evaluating, end),
            save_s=save_s,
            answering_s=p.answering.most if end == "low" else p.answering.expected,
        )
        for p in paced
    ]
    return side_by_side(works, places)


def _at_least(course: Course, other: Course) -> Course:
    """Waiting can hide in the mean what a quantile does not see; the order must hold."""
    return Course(max(course.billed_s, other.billed_s), max(course.wall_s, other.wall_s))


def _expected(usual: Work, start: SetUp, rate: float, terms: Terms, extras: Extras) -> Course:
    with_losses = expected_with_interruptions(
        usual.useful_s, start.billed_s, usual.save_s, usual.interval_s, rate
    )
    lost = max(0.0, with_losses - usual.total_s - start.billed_s) if rate > 0 else 0.0
    parts = (
        ("boot", start.boot_s, "the machine starts"),
        ("image", start.image_s, "the image is pulled"),
        ("install", start.install_s, "libraries"),
        ("model download", start.download_s, "the base model, as wide as the Hub has it"),
        ("model load", start.load_s, "into memory, quantised on the way"),
        ("training", usual.training_s, "forward and backward"),
        ("evaluation", usual.evaluation_s, "forward only"),
        ("answers", usual.answering_s, "generated to the evaluation data, token by token"),
        ("checkpoints", usual.saving_s, "saving"),
        ("interruptions", lost, "work lost and set-ups repeated on spot machines"),
        ("validation", extras.validation_h * 3600, "as asked"),
        ("experimentation", extras.experimentation_h * 3600, "as asked"),
        ("after the end", terms.after_s, "billed until the machine is gone"),
    )
    billed = sum(seconds for _, seconds, _ in parts)
    waiting = start.queue_s + rate * with_losses / 3600 * (REQUEUE_S + start.queue_s)
    return Course(billed, billed + waiting, tuple(part for part in parts if part[1] > 0))


def _unlucky(
    late: Work, slow: SetUp, interruptions: int, share_lost: float, fixed_s: float
) -> Course:
    """A slow run with so many interruptions, each losing that share of a checkpoint interval."""
    lost = interruptions * (share_lost * late.interval_s + slow.billed_s)
    billed = late.total_s + slow.billed_s + lost + fixed_s
    waiting = slow.queue_s + interruptions * (3 * REQUEUE_S + slow.queue_s)
    return Course(billed, billed + waiting)


def billed_units(seconds: float, step_s: int, minimum_s: int) -> int:
    """Seconds on the bill: rounded up to the provider's step, and at least its minimum."""
    step = max(1, step_s)
    whole = max(math.ceil(seconds - 1e-6), minimum_s, 1)
    return -(-whole // step) * step


_LARGEST_EXPONENT = 6
"""A price of ten million dollars an hour and more is a mistake of the catalogue."""


def price_micro(usd_per_hour: Decimal | None) -> int | None:
    """A price in whole micro-dollars; None where it is missing, zero, negative or not a number.

    No one else's machine is free: a zero in a catalogue means that nobody knows the price.
    """
    if not isinstance(usd_per_hour, Decimal) or not usd_per_hour.is_finite():
        return None
    if usd_per_hour.adjusted() > _LARGEST_EXPONENT:
        return None
    micro = int(usd_per_hour * MICRO)
    return micro if micro > 0 else None


def time_cost_micro(price: int, seconds: int) -> int:
    """Micro-dollars for so many billed seconds at that price an hour, rounded up."""
    return -(-price * seconds // 3600)


def disk_cost_micro(usd_per_gib_hour: Decimal, gib: float, seconds: int) -> int:
    """Micro-dollars for a disk of that size over that time, rounded up; 0 if it is included."""
    if not usd_per_gib_hour.is_finite() or usd_per_gib_hour <= 0:
        return 0
    return math.ceil(usd_per_gib_hour * MICRO * Decimal(gib) * seconds / 3600)


def egress_micro(terms: Terms, adapters: Iterable[tuple[ModelShape, Recipe]]) -> int:
    """Micro-dollars for these adapters on their way out of the provider."""
    if terms.usd_per_gb_out == "0":
        return 0
    params = sum(shape.lora_params(r.lora_rank, r.lora_modules) for shape, r in adapters)
    return math.ceil(Decimal(terms.usd_per_gb_out) * MICRO * Decimal(params * 4 / GB))


def usd(micro: int) -> Decimal:
    """Whole micro-dollars as exact Decimal dollars."""
    return Decimal(micro).scaleb(-6)
