"""Hostile schedules: everything that a seed decides before the first second has passed."""

from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

from kwanzaa_compute.drivers.contract import Deadline
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.records import Prospect, Wish
from kwanzaa_compute.testing.samples import sample_offer
from kwanzaa_compute.testing.simtrainer import Training
from kwanzaa_compute.testing.weather import Faults, Weather

STOP_GRACE_S = 300.0
"""The time that a machine is given to save, once it was asked to stop."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One world to survive. Times in seconds.

    The bounds that the library relies on are kept: nothing is invisible for longer than
    `settle_s` less what the watchers' clocks differ, a boot is shorter than `boot_limit_s`, and an
    end takes no longer than `stop_reserve_s`.
    """

    seed: int
    watchers: int
    one_step_leases: bool
    """Whether watchers let go of a lease after each step, as `kwanzaa train --detach` does."""
    poll_s: float
    skew_s: float
    runs: int
    offers: tuple[Offer, ...]
    max_usd: Decimal
    project_usd: Decimal | None
    """The cap on all runs together."""
    max_hours: float
    settle_s: float
    stop_reserve_s: float
    boot_limit_s: float
    deadline: Deadline
    weather: Weather
    faults: Faults
    training: Training
    crashes: float
    """Probability that a watcher is killed, at each boundary of each of its calls."""
    store_errors: float
    store_slow: float
    """Probability that a watcher's call to the store takes up to two minutes."""
    wish: tuple[float, Wish] | None
    blackout_s: tuple[float, float] | None
    """From when on every watcher is dead, and for how long."""
    hostile_s: float
    """After so long nothing goes wrong any more, and every run must come to its end."""
    finished_within_s: float | None
    """The runs' deadline, in seconds from their start; None: they have none."""

    @property
    def prospects(self) -> tuple[Prospect, ...]:
        """The offers, with the times that the runs are told: true ones, unless a boot is slow."""
        training = self.training
        every_s = training.beats_a_checkpoint * training.steps_a_beat * training.step_s
        work_s = training.steps * training.step_s
        set_up_s = self.weather.boot_s[1] + training.load_s
        return tuple(Prospect(offer, set_up_s, work_s, every_s) for offer in self.offers)


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = Random(f"{seed}/schedule")  # noqa: S311 -- replayable
    settle_s = rng.choice([60.0, 120.0])
    skew_s = rng.choice([0.0, 0.0, 2.0, 5.0])
    boot_most_s, boot_limit_s = rng.choice(
        [(60.0, 900.0), (240.0, 420.0), (240.0, 900.0), (600.0, 900.0)]
    )
    training = _training(rng)
    weather = _weather(rng, settle_s - 4 * skew_s, boot_most_s)
    return Schedule(
        seed=seed,
        watchers=rng.choice([1, 1, 2, 3]),
        one_step_leases=rng.choice([True, False]),
        poll_s=rng.choice([30.0, 60.0, 100.0, 150.0]),
        skew_s=skew_s,
        runs=rng.choice([1, 1, 2]),
        offers=_offers(rng),
        max_usd=_cap(rng),
        project_usd=rng.choice([None, Decimal(rng.randint(8, 200)) / 100]),
        max_hours=rng.choice([1.0, 5.0]),
        settle_s=settle_s,
        stop_reserve_s=max(60.0, weather.ending_s[1]),
        boot_limit_s=boot_limit_s,
        deadline=rng.choice(list(Deadline)),
        weather=weather,
        faults=_faults(rng),
        training=training,
        crashes=rng.choice([0.0, 0.005, 0.02]),
        store_errors=rng.choice([0.0, 0.02, 0.1]),
        store_slow=rng.choice([0.0, 0.0, 0.05, 0.2]),
        wish=_wish(rng, boot_most_s / 2 + training.load_s + training.steps * training.step_s),
        blackout_s=rng.choice([None] * 5 + [(rng.uniform(60, 3600), rng.uniform(3600, 80_000))]),
        hostile_s=rng.uniform(1800, 5400),
        finished_within_s=rng.choice([None, rng.uniform(600, 3 * 3600)]),
    )


def _offers(rng: Random) -> tuple[Offer, ...]:
    step_s, minimum_s = rng.choice([(1, 0), (1, 600), (60, 0), (600, 0), (3600, 0)])
    rate = Decimal(rng.randint(20, 400)) / 100
    cheap = sample_offer(
        id="spot",
        spot=True,
        region="south",
        usd_per_hour=rate / 4,
        billing_step_s=step_s,
        minimum_s=minimum_s,
        disk_usd_per_gib_hour=Decimal("0.0001"),
        disk_gib=100.0,
    )
    firm = replace(cheap, id="firm", spot=False, region="north", usd_per_hour=rate)
    return (cheap, replace(cheap, region="west"), firm)


def _cap(rng: Random) -> Decimal:
    return rng.choice([Decimal(100), Decimal(rng.randint(8, 200)) / 100])


def _weather(rng: Random, longest_lag_s: float, boot_most_s: float) -> Weather:
    return Weather(
        latency_s=(0.05, rng.choice([0.2, 3.0])),
        boot_s=(10.0, boot_most_s),
        ending_s=(0.0, rng.choice([0.0, 20.0, 180.0])),
        works_while_ending=rng.choice([0.0, 0.5, 1.0]),
        list_lag_s=rng.choice([0.0, rng.uniform(1.0, longest_lag_s - 1.0), longest_lag_s - 1.0]),
        preempted_every_s=rng.choice([0.0, 600.0, 1800.0, 5400.0]),
        preempted_stays=rng.choice([0.0, 0.3]),
    )


def _faults(rng: Random) -> Faults:
    worst = rng.choice([0.02, 0.1, 0.3])

    def often() -> float:
        return rng.choice([0.0, rng.uniform(0.0, worst)])

    return Faults(
        create_errors_before=often(),
        create_errors_after=often(),
        create_times_out_before=often(),
        create_times_out_after=often(),
        create_lands_late=often(),
        create_twice=often(),
        rate_limited=often(),
        sold_out=often(),
        list_errors=often(),
        list_times_out=often(),
        list_outage_s=rng.choice([0.0, 0.0, 400.0]),
        list_blinks=often(),
        inspect_errors=often(),
        terminate_errors_before=often(),
        terminate_errors_after=often(),
        terminate_outage_s=rng.choice([0.0, 600.0]),
        terminate_lies=often(),
        timeout_s=rng.choice([10.0, 59.0]),
        retry_after_s=rng.choice([5.0, 60.0]),
    )


def _training(rng: Random) -> Training:
    bad = rng.choice([0.0, 0.02, 0.05])
    return Training(
        steps=100,
        step_s=rng.uniform(2.0, 12.0),
        load_s=rng.uniform(5.0, 60.0),
        steps_a_beat=rng.choice([4, 10]),
        beats_a_checkpoint=rng.choice([1, 2]),
        crashes=rng.choice([0.0, bad]),
        fails=rng.choice([0.0, bad]),
        hangs=rng.choice([0.0, bad / 2]),
        deaf=rng.choice([0.0, 0.5, 1.0]),
        torn_checkpoints=rng.choice([0.0, 0.2]),
        fails_for_good_at=rng.choice([None, None, None, None, None, 50]),
    )


def _wish(rng: Random, finished_s: float) -> tuple[float, Wish] | None:
    """A wish at any time, or so late that its machine may finish while it is made to end."""
    wish = rng.choice([None, None, Wish.STOP, Wish.TERMINATE])
    if wish is None:
        return None
    late_s = finished_s - rng.uniform(0, 200) - (STOP_GRACE_S if wish is Wish.STOP else 0)
    return max(0.0, rng.choice([rng.uniform(0, 1500), late_s])), wish
