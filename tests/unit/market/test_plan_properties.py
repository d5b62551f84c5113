"""What must hold of every plan, whatever the offers."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.market.costs import Extras
from kwanzaa_compute.market.gpus import all_gpus, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer, Requirements
from kwanzaa_compute.market.plan import Settings, Task, make_plan
from kwanzaa_compute.market.recipe import Recipe
from kwanzaa_compute.market.shapes import find_shape
from kwanzaa_compute.market.sizing import memory_needed
from kwanzaa_compute.market.workload import workload

OLMO = find_shape("allenai/OLMo-7B-Instruct-hf")
NOW = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
NEEDS = Requirements(vram_gib=memory_needed(OLMO, Recipe()).total_gib, disk_gib=40)

prices = st.one_of(
    st.none(),
    st.sampled_from([Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("Infinity")]),
    st.decimals(Decimal("0.000001"), Decimal(200), places=6),
    st.decimals(Decimal("0.10"), Decimal(5), places=2),
)
offers = st.builds(
    Offer,
    provider=st.sampled_from(["runpod", "lambda", "azureml", "sagemaker", "hf-jobs", "else"]),
    id=st.sampled_from(["a", "b", "c", "d, e"]),
    gpu=st.sampled_from([*all_gpus(), unknown_gpu("MI300X", 192)]),
    gpu_count=st.sampled_from([1, 1, 1, 2, 8]),
    machines=st.sampled_from([1, 1, 2]),
    usd_per_hour=prices,
    spot=st.booleans(),
    region=st.sampled_from(["", "east", "west"]),
    availability=st.sampled_from(list(Availability)),
    billing_step_s=st.sampled_from([1, 60, 3600]),
    minimum_s=st.sampled_from([0, 0, 600]),
    disk_usd_per_gib_hour=st.sampled_from([Decimal(0), Decimal("0.0002")]),
    disk_gib=st.sampled_from([None, None, 10.0, 500.0]),
    as_of=st.sampled_from(["2026-11-22", "2026-08-01", "2025-01-01", "", "soon"]),
    attended=st.sampled_from([False, False, True]),
)
jobs = st.builds(
    workload,
    tokens_per_epoch=st.integers(1000, 50_000_000),
    samples=st.integers(1, 100_000),
    row_tokens=st.just(2048),
    rows_per_step=st.sampled_from([8, 16]),
    epochs=st.floats(0.1, 5),
    save_every_s=st.sampled_from([None, 600.0]),
)
needs = st.builds(
    replace,
    st.just(NEEDS),
    max_usd=st.one_of(st.none(), st.decimals(Decimal("0.1"), Decimal(50), places=2)),
    max_hours=st.one_of(st.none(), st.floats(0.2, 30)),
    deadline_h=st.one_of(st.none(), st.floats(0.2, 30)),
)
extras = st.builds(
    Extras,
    buffer=st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.333")]),
    interruptions_per_h=st.one_of(st.none(), st.floats(0, 3)),
)


def planned(some, job, need=NEEDS, extra=None):
    """A plan; that of every third job is a run of five adapters."""
    settings = Settings(now=NOW, extras=extra or Extras())
    tasks = [Task(job, OLMO, Recipe())] * (1 if job.tokens_per_epoch % 3 else 5)
    return make_plan(need, some, tasks, settings)


def rank(plan, offer):
    """Where this very offer stands; past the end if it is refused."""
    for position, candidate in enumerate(plan.candidates):
        if candidate.offer is offer:
            return position
    return len(plan.candidates)


@given(some=st.lists(offers, max_size=25), job=jobs, need=needs, extra=extras)
def test_ranked_and_refused_together_are_all_offers(some, job, need, extra):
    plan = planned(some, job, need, extra)
    seen = [c.offer for c in plan.candidates] + [r.offer for r in plan.refused]
    assert sorted(map(id, seen)) == sorted(map(id, some))
    assert all(refusal.reason for refusal in plan.refused)


@given(some=st.lists(offers, max_size=25), job=jobs, need=needs, extra=extras)
def test_every_ranked_offer_has_a_price_and_an_exact_bill(some, job, need, extra):
    plan = planned(some, job, need, extra)
    last = Decimal(0)
    for candidate in plan.candidates:
        assert candidate.offer.usd_per_hour > 0
        assert candidate.usd.expected > 0
        assert sum(line.usd for line in candidate.lines) == candidate.usd.expected
        assert all(line.usd >= 0 for line in candidate.lines)
        assert candidate.usd.expected <= candidate.usd.p95 <= candidate.usd.worst
        assert candidate.usd.expected >= last
        last = candidate.usd.expected
        if need.max_usd is not None:
            assert candidate.usd.expected <= need.max_usd


@given(some=st.lists(offers, max_size=15), new=offers, job=jobs, need=needs, extra=extras)
def test_one_more_offer_never_raises_the_best_cost(some, new, job, need, extra):
    before, after = planned(some, job, need, extra), planned([*some, new], job, need, extra)
    if before.best:
        assert after.best
        assert after.best.usd.expected <= before.best.usd.expected


@given(
    some=st.lists(offers, max_size=12),
    dear=offers,
    percent=st.integers(1, 100),
    first=st.booleans(),
    job=jobs,
    need=needs,
)
def test_a_cheaper_but_otherwise_equal_offer_never_ranks_lower(
    some, dear, percent, first, job, need
):
    price = dear.usd_per_hour
    if price is None or not price.is_finite() or price <= Decimal("0.0001"):
        return
    cheap = replace(dear, usd_per_hour=price * percent / 100)
    twins = [cheap, dear] if first else [dear, cheap]
    plan = planned([*some, *twins], job, need)
    if percent < 100:
        assert rank(plan, cheap) <= rank(plan, dear)


@given(
    some=st.lists(offers, max_size=12), small=offers, more=st.floats(0, 200), job=jobs, need=needs
)
def test_a_larger_but_otherwise_equal_offer_never_ranks_lower(some, small, more, job, need):
    large = replace(small, gpu=replace(small.gpu, vram_gib=small.gpu.vram_gib + more))
    plan = planned([*some, small, large], job, need)
    if large.gpu == small.gpu:
        return
    if rank(plan, large) == len(plan.candidates):
        assert rank(plan, small) == len(plan.candidates)
    else:
        assert rank(plan, large) <= rank(plan, small)


@given(some=st.lists(offers, max_size=15), job=jobs, extra=extras, data=st.data())
def test_the_order_of_the_offers_does_not_matter(some, job, extra, data):
    shuffled = data.draw(st.permutations(some))
    a, b = planned(some, job, extra=extra), planned(shuffled, job, extra=extra)
    assert [c.usd for c in a.candidates] == [c.usd for c in b.candidates]
    assert len(a.refused) == len(b.refused)


@given(offer=offers, job=jobs, rates=st.tuples(st.floats(0, 3), st.floats(0, 3)))
def test_more_interruptions_never_cost_less(offer, job, rates):
    few, many = sorted(rates)
    spot = replace(offer, spot=True)
    calm, rough = (planned([spot], job, extra=Extras(interruptions_per_h=r)) for r in (few, many))
    if calm.best and rough.best:
        assert calm.best.usd.expected <= rough.best.usd.expected + Decimal("0.000001")


@given(offer=offers, job=jobs, times=st.integers(2, 10))
def test_more_work_never_costs_less(offer, job, times):
    longer = replace(job, epochs=job.epochs * times, steps=job.steps * times)
    short, long = planned([offer], job), planned([offer], longer)
    if short.best and long.best:
        assert short.best.usd.expected <= long.best.usd.expected
        assert short.best.hours.expected <= long.best.hours.expected


@given(offer=offers, job=jobs, prices=st.tuples(st.integers(1, 10**8), st.integers(1, 10**8)))
def test_a_dearer_hour_never_costs_less(offer, job, prices):
    low, high = (
        planned([replace(offer, usd_per_hour=Decimal(micro).scaleb(-6))], job)
        for micro in sorted(prices)
    )
    assert bool(low.best) == bool(high.best)
    if low.best:
        assert low.best.usd.expected <= high.best.usd.expected
        assert low.best.usd.p95 <= high.best.usd.p95
        assert low.best.usd.worst <= high.best.usd.worst


@given(offer=offers, job=jobs, hours=st.tuples(st.floats(0, 50), st.floats(0, 50)))
def test_more_hours_beside_the_training_never_cost_less(offer, job, hours):
    few, many = (
        planned([offer], job, extra=Extras(validation_h=h, experimentation_h=h))
        for h in sorted(hours)
    )
    if few.best and many.best:
        assert few.best.usd.expected <= many.best.usd.expected
        assert few.best.hours.expected <= many.best.hours.expected


@settings(max_examples=40)
@given(some=st.lists(offers, max_size=10), job=jobs, need=needs, extra=extras)
def test_a_plan_survives_being_saved(some, job, need, extra):
    from kwanzaa_compute.market.plan import Plan

    plan = planned(some, job, need, extra)
    read = Plan.from_json(plan.to_json())
    assert read.to_json() == plan.to_json()
    assert [c.usd for c in read.candidates] == [c.usd for c in plan.candidates]
    assert [r.reason for r in read.refused] == [r.reason for r in plan.refused]
