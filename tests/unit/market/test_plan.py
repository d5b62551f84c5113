"""Plans: which offer wins for which job, and what its bill says."""

from dataclasses import replace
from decimal import Decimal

import pytest

from kwanzaa_compute.market.costs import Extras
from kwanzaa_compute.market.gpus import cpu_device, find_gpu
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.plan import Reason, Task, make_plan
from kwanzaa_compute.market.prices import bundled_offers
from kwanzaa_compute.market.shapes import ModelShape
from kwanzaa_compute.market.speed import SpeedReceipt
from kwanzaa_compute.market.workload import workload


def offer(gpu="A100-80GB", usd="2.00", **changed):
    price = None if usd is None else Decimal(usd)
    return replace(
        Offer("runpod", f"{gpu}-{usd}", find_gpu(gpu), usd_per_hour=price, as_of="2026-11-20"),
        **changed,
    )


def refused(plan):
    assert not plan.candidates
    (only,) = plan.refused
    assert only.reason
    return only


class TestTwoJobsTwoWinners:
    """The bundled prices name one winner for a small job and another for a large one."""

    def test_the_first_users_small_job_goes_where_set_up_is_short_and_hours_are_cheap(
        self, plan, small_job
    ):
        best = plan(*bundled_offers(), job=small_job).best
        assert (best.offer.provider, best.offer.id, best.offer.spot) == (
            "runpod",
            "RTX 3090",
            False,
        )
        assert best.usd.expected < Decimal("0.20")

    def test_the_large_job_goes_where_the_gpu_is_fast_for_its_price(self, plan, large_job):
        best = plan(*bundled_offers(), job=large_job).best
        assert best.offer.provider == "azureml"
        assert best.offer.id == "Standard_NC24ads_A100_v4"
        assert best.offer.spot
        assert best.set_up_share < 0.10

    def test_set_up_is_why_the_small_job_does_not_take_the_large_jobs_machine(
        self, plan, small_job, large_job
    ):
        small, large = (plan(*bundled_offers(), job=job) for job in (small_job, large_job))
        winner_of_large = next(c for c in small.candidates if c.offer == large.best.offer)
        assert winner_of_large.set_up_share > 0.5 > small.best.set_up_share
        trained = {line.what: line.usd for line in winner_of_large.lines}["training"]
        assert trained < {line.what: line.usd for line in small.best.lines}["training"]
        assert winner_of_large.usd.expected > small.best.usd.expected
        assert "boot" in winner_of_large.why

    def test_by_the_hour_neither_winner_is_the_cheapest_machine(self, plan, small_job, large_job):
        for job in (small_job, large_job):
            candidates = plan(*bundled_offers(), job=job).candidates
            cheapest_hour = min(candidates, key=lambda c: c.offer.usd_per_hour)
            assert cheapest_hour.offer != candidates[0].offer


class TestThisMachine:
    @pytest.fixture
    def tiny(self):
        return ModelShape("tiny", 128, 4, 4, 4, 32, 344, 2048, tied=True)

    @pytest.fixture
    def mine(self):
        return Offer("local", "here", cpu_device(8.0), own_machine=True)

    def test_a_tiny_model_is_free_on_this_machine_and_ranked_first(
        self, requirements, recipe, tiny, mine
    ):
        job = workload(
            tokens_per_epoch=20_000, samples=400, row_tokens=256, rows_per_step=4, epochs=1
        )
        small = replace(recipe, row_tokens=256)
        needs = replace(requirements, vram_gib=2.0, disk_gib=5.0)
        made = make_plan(needs, [offer(), mine], Task(job, tiny, small))
        assert made.best.offer is mine
        assert made.best.usd.expected == made.best.usd.worst == 0
        assert "costs nothing" in made.best.why
        assert made.best.hours.expected < 0.2

    def test_this_machine_needs_no_room_for_libraries_that_it_has(self, plan, requirements, mine):
        room = replace(mine, gpu=cpu_device(64.0), disk_gib=requirements.disk_gib - 6)
        assert plan(room).best
        assert refused(plan(replace(room, own_machine=False, provider="x"))).code is Reason.DISK

    def test_a_7b_model_does_not_fit_this_machines_memory(self, plan, mine):
        assert refused(plan(mine)).code is Reason.VRAM

    def test_a_7b_model_that_fits_takes_too_long_here(self, plan, requirements, mine):
        large = replace(mine, gpu=cpu_device(64.0))
        day = replace(requirements, max_hours=24.0)
        assert refused(plan(large, needs=day)).code is Reason.TOO_LONG

    def test_a_wish_for_spot_does_not_refuse_this_machine(self, plan, requirements, mine):
        large = replace(mine, gpu=cpu_device(64.0))
        assert plan(large, needs=replace(requirements, spot=True)).best


class TestTheBill:
    def test_its_lines_add_up_exactly(self, plan, large_job):
        made = plan(*bundled_offers(), job=large_job, extras=Extras(buffer=Decimal("0.1")))
        for candidate in made.candidates:
            assert sum(line.usd for line in candidate.lines) == candidate.usd.expected
            assert candidate.usd.expected <= candidate.usd.p95 <= candidate.usd.worst
            assert candidate.hours.low <= candidate.hours.expected <= candidate.hours.high

    def test_it_is_what_the_ranking_used(self, plan, small_job):
        costs = [c.usd.expected for c in plan(*bundled_offers(), job=small_job).candidates]
        assert costs == sorted(costs)

    def test_a_buffer_is_added_only_when_asked_for(self, plan):
        plain, padded = (
            plan(offer(), extras=Extras(buffer=Decimal(b))).best for b in ("0", "0.10")
        )
        assert padded.usd.expected == pytest.approx(
            plain.usd.expected * Decimal("1.1"), abs=Decimal("0.00001")
        )
        assert "buffer" not in {line.what for line in plain.lines}

    def test_disk_and_data_on_the_way_out_are_on_it(self, plan):
        disk = offer(disk_usd_per_gib_hour=Decimal("0.0003"), provider="azureml")
        lines = {line.what: line.usd for line in plan(disk).best.lines}
        assert lines["disk"] > 0
        assert lines["data out"] == pytest.approx(
            Decimal("0.16") * Decimal("0.087"), abs=Decimal("0.00002")
        )

    def test_hourly_billing_makes_a_short_run_dear(self, plan):
        second, hour = (plan(offer(billing_step_s=step)).best for step in (1, 3600))
        assert hour.usd.expected == Decimal("2.00") > second.usd.expected

    def test_a_cached_model_saves_the_download(self, plan):
        fresh, cached = plan(offer()).best, plan(offer(), cached=frozenset({"runpod"})).best
        saved = {line.what: line.usd for line in fresh.lines}["model download"]
        gained = fresh.usd.expected - cached.usd.expected
        assert gained == pytest.approx(saved, abs=Decimal("0.001"))

    def test_the_worst_case_stops_at_the_cap_and_one_billing_step(self, plan, requirements):
        capped = replace(requirements, max_usd=Decimal("0.40"))
        best = plan(offer(usd="2.00"), needs=capped).best
        assert best.usd.worst <= Decimal("0.40") + Decimal("0.001")

    def test_the_worst_case_stops_at_the_limit_of_hours(self, plan, requirements):
        limited = replace(requirements, max_hours=0.3)
        assert plan(offer(usd="2.00"), needs=limited).best.usd.worst <= Decimal("0.60")

    def test_reaching_the_cap_one_time_in_twenty_is_marked(self, plan, requirements):
        best = plan(offer(usd="2.00")).best
        between = (best.usd.expected + best.usd.p95) / 2
        capped = plan(offer(usd="2.00"), needs=replace(requirements, max_usd=between)).best
        assert any("cap" in mark for mark in capped.marks)

    def test_validation_and_experimentation_hours_are_paid(self, plan):
        plain = plan(offer()).best
        more = plan(offer(), extras=Extras(validation_h=0.5, experimentation_h=1.0)).best
        gained = more.usd.expected - plain.usd.expected
        assert gained == pytest.approx(Decimal("3.00"), abs=Decimal("0.001"))

    def test_spot_machines_get_the_best_checkpoint_interval_named(self, plan, large_job):
        spot = offer(spot=True, provider="azureml")
        assert 100 < plan(spot, job=large_job).best.checkpoint_every_s < 1000
        assert plan(offer(), job=large_job).best.checkpoint_every_s is None


def test_a_spot_candidate_knows_the_price_from_which_it_loses(plan, large_job):
    spot = offer(usd="0.70", provider="azureml", spot=True)
    steady = offer("RTX 4090", usd="0.60")
    made = plan(spot, steady, job=large_job, extras=Extras(buffer=Decimal("0.1")))
    first = made.best
    ceiling = made.spot_ceiling(first)
    assert first.offer is spot
    assert ceiling > Decimal("0.70")
    below, above = (
        plan(
            replace(spot, usd_per_hour=ceiling * factor),
            steady,
            job=large_job,
            extras=Extras(buffer=Decimal("0.1")),
        )
        for factor in (Decimal("0.999"), Decimal("1.001"))
    )
    assert below.best.offer.spot
    assert not above.best.offer.spot
    assert made.spot_ceiling(made.candidates[1]) is None
    assert plan(spot, job=large_job).spot_ceiling(first) is None


class TestSeveralAdapters:
    """One run of several adapters: set-up once, one adapter a GPU, the others in turn."""

    @pytest.fixture
    def task(self, large_job, olmo, recipe):
        return Task(large_job, olmo, recipe)

    def test_eight_are_cheaper_on_one_machine_with_eight_gpus(self, plan, large_job, task):
        one, eight = offer(usd="2.00"), offer(usd="14.00", gpu_count=8, id="x8")
        made = plan(one, eight, job=large_job, beside=[task] * 7)
        assert made.best.offer is eight
        assert plan(one, eight, job=large_job).best.offer is one

    def test_in_turn_they_share_boot_and_download(self, plan, task, large_job):
        alone, two = plan(offer(), job=large_job), plan(offer(), job=large_job, beside=[task])
        parts, shared = (
            {line.what: line.seconds for line in made.best.lines} for made in (alone, two)
        )
        for once in ("boot", "image", "install", "model download"):
            assert shared[once] == parts[once]
        for twice in ("training", "evaluation", "checkpoints", "model load"):
            assert shared[twice] == pytest.approx(2 * parts[twice])
        assert alone.best.usd.expected < two.best.usd.expected < 2 * alone.best.usd.expected

    def test_another_base_is_another_download(self, plan, task, large_job):
        same = plan(offer(), job=large_job, beside=[task])
        other = plan(offer(), job=large_job, beside=[replace(task, base="another")])
        seconds = [
            next(line.seconds for line in made.best.lines if line.what == "model download")
            for made in (same, other)
        ]
        assert seconds[1] == pytest.approx(2 * seconds[0])

    def test_a_machine_is_busy_as_long_as_its_longest_place(self, plan, task, large_job):
        """Three on two GPUs: the third follows the first. One alone has both."""
        two = offer(gpu_count=2)
        seconds = {
            count: plan(two, job=large_job, beside=[task] * (count - 1)).best.training_s
            for count in (1, 2, 3, 4)
        }
        assert 2 * 0.9 < seconds[2] / seconds[1] < 2
        assert seconds[3] == seconds[4] == pytest.approx(2 * seconds[2])

    def test_what_another_adapter_adds_depends_on_its_own_size(self, plan, task, large_job):
        tiny = workload(
            tokens_per_epoch=20_000, samples=40, row_tokens=2048, rows_per_step=16, epochs=1
        )
        alone = plan(offer(), job=large_job).best.training_s
        both = plan(offer(), job=large_job, beside=[replace(task, workload=tiny)]).best.training_s
        assert alone < both < 1.01 * alone

    def test_a_processor_must_hold_the_largest_of_them(self, plan, task, olmo):
        mine = Offer("local", "here", cpu_device(64.0), own_machine=True)
        huge = replace(olmo, hidden=16 * olmo.hidden)
        assert plan(mine).best
        assert refused(plan(mine, beside=[replace(task, shape=huge)])).code is Reason.VRAM


def test_receipts_can_change_the_winner(plan, large_job):
    a, b = offer("A100-80GB", usd="1.50"), offer("L40S", usd="1.40")
    assert plan(a, b, job=large_job).best.offer is a
    receipts = tuple([SpeedReceipt("A100-80GB", 1000, 400)] * 9)
    assert plan(a, b, job=large_job, receipts=receipts).best.offer is b


def test_runs_per_budget_are_whole_runs_of_the_best_candidate(plan):
    made = plan(offer())
    runs = made.runs_per_budget(Decimal(500))
    assert runs * made.best.usd.expected <= 500 < (runs + 1) * made.best.usd.expected
    assert made.runs_per_budget(Decimal(500), success_rate=Decimal("0.8")) == int(runs * 0.8)
    assert plan().runs_per_budget(Decimal(500)) == 0


def test_without_an_offer_there_is_an_empty_plan(plan):
    made = plan()
    assert made.best is None
    assert not made.candidates
    assert not made.refused


def test_candidates_and_refusals_are_ordinary_sequences(plan):
    made = plan(offer(usd="2.00"), offer(usd="1.00"), offer(usd=None))
    assert len(made.candidates) == 2
    assert made.candidates[0] == next(iter(made.candidates))
    assert made.candidates[-1].offer.usd_per_hour == 2
    assert len(made.candidates[:1]) == 1
    assert made.candidates == tuple(made.candidates)
    with pytest.raises(IndexError):
        made.candidates[2]
