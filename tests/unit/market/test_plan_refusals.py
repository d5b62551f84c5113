"""Offers that a plan refuses: each with its reason, and why it is the right one."""

from dataclasses import replace
from decimal import Decimal

import pytest

from kwanzaa_compute.market.gpus import find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer, Precision
from kwanzaa_compute.market.plan import Reason, Task, make_plan


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


class TestRefusals:
    def test_a_card_that_is_too_small_is_refused_with_what_is_missing(self, plan, requirements):
        found = refused(plan(offer("RTX A2000")))
        short = requirements.vram_gib - find_gpu("RTX A2000").vram_gib
        assert found.code is Reason.VRAM
        assert f"short by {short:.1f} GiB" in found.reason

    def test_a_24_gb_a10g_is_not_lost_to_a_job_that_needs_22_gib(self, plan, requirements):
        assert plan(offer("A10G"), needs=replace(requirements, vram_gib=22.0)).best

    def test_no_bf16_is_refused_only_where_bf16_is_required(self, plan, requirements):
        strict = replace(requirements, precision=Precision.BF16_REQUIRED)
        assert refused(plan(offer("T4"), needs=strict)).code is Reason.NO_BF16
        best = plan(offer("T4")).best
        assert best
        assert any("fp16" in mark for mark in best.marks)

    @pytest.mark.parametrize("usd", [None, "0", "-1", "NaN", "sNaN", "Infinity"])
    def test_an_unknown_price_is_refused_and_never_free(self, plan, usd):
        assert refused(plan(offer(usd=usd))).code is Reason.PRICE_UNKNOWN

    def test_an_old_price_is_refused_with_its_age_and_a_stale_one_marked(self, plan):
        found = refused(plan(offer(as_of="2026-01-16")))
        assert found.code is Reason.PRICE_OLD
        assert "311 days" in found.reason
        assert any("days old" in mark for mark in plan(offer(as_of="2026-08-20")).best.marks)
        assert plan(offer(as_of="2026-01-16"), max_price_age_days=400).best
        assert any("unknown" in mark for mark in plan(offer(as_of="")).best.marks)
        assert plan(offer(as_of="yesterday")).best

    def test_a_machine_that_needs_a_person_is_refused_unless_asked_for(self, plan):
        assert refused(plan(offer(attended=True))).code is Reason.ATTENDED
        assert plan(offer(attended=True), allow_attended=True).best
        assert plan(offer(attended=True), providers=("runpod",)).best

    def test_sold_out_is_refused(self, plan):
        gone = offer(availability=Availability.SOLD_OUT)
        assert refused(plan(gone)).code is Reason.SOLD_OUT
        assert plan(offer(availability=Availability.LOW)).best

    def test_spot_that_is_no_cheaper_than_on_demand_beside_it_is_refused(self, plan):
        made = plan(offer(usd="2.00"), offer(usd="2.00", spot=True, id="spot"))
        assert [c.offer.spot for c in made.candidates] == [False]
        assert made.refused[0].code is Reason.SPOT_DEARER
        elsewhere = plan(offer(usd="2.00"), offer(usd="3.00", spot=True, region="mars"))
        assert len(elsewhere.candidates) == 2
        cheaper = plan(offer(usd="2.00"), offer(usd="0.50", spot=True))
        assert [c.offer.spot for c in cheaper.candidates] == [True, False]

    def test_spot_stays_where_the_on_demand_machine_beside_it_is_sold_out(self, plan):
        gone = offer(usd="2.00", availability=Availability.SOLD_OUT)
        assert plan(gone, offer(usd="2.50", spot=True)).best

    def test_a_run_past_the_limit_of_hours_is_refused(self, plan, requirements, large_job):
        short = replace(requirements, max_hours=1.0)
        found = refused(plan(offer("A10G"), needs=short, job=large_job))
        assert found.code is Reason.TOO_LONG
        assert "limit of 1.0 h" in found.reason

    def test_a_run_past_the_deadline_is_refused(self, plan, requirements, large_job):
        soon = replace(requirements, deadline_h=1.0)
        assert refused(plan(offer("A10G"), needs=soon, job=large_job)).code is Reason.DEADLINE

    def test_spot_that_may_miss_the_deadline_needs_on_demand_to_take_over(
        self, plan, requirements, large_job
    ):
        spot = offer(usd="0.70", provider="azureml", spot=True)
        steady = offer(usd="3.50", provider="azureml")
        late = plan(spot, job=large_job).best.hours
        tight = replace(requirements, deadline_h=(late.expected + late.high) / 2)
        made = plan(spot, steady, needs=tight, job=large_job)
        assert [c.offer for c in made.candidates] == [spot, steady]
        for others in ((), (replace(steady, availability=Availability.SOLD_OUT),)):
            alone = plan(spot, *others, needs=tight, job=large_job)
            assert not alone.candidates
            assert Reason.SPOT_DEADLINE in {refusal.code for refusal in alone.refused}

    def test_what_costs_more_than_the_cap_is_refused(self, plan, requirements):
        capped = replace(requirements, max_usd=Decimal("0.05"))
        found = refused(plan(offer(), needs=capped))
        assert found.code is Reason.CAP
        assert "cap of $0.05" in found.reason

    def test_arm_machines_are_refused_unless_allowed(self, plan):
        assert refused(plan(offer("GH200"))).code is Reason.ARM
        assert plan(offer("GH200"), allow_arm=True).best

    def test_another_gpu_than_the_one_asked_for_is_refused(self, plan, requirements):
        wanted = replace(requirements, gpu="A100")
        assert refused(plan(offer("A10G"), needs=wanted)).code is Reason.WRONG_GPU
        assert plan(offer("A100-80GB SXM"), needs=wanted).best

    def test_missing_features_are_named(self, plan, requirements):
        needs = replace(requirements, features=frozenset({"custom-code", "unattended"}))
        found = refused(plan(offer(provider="autotrain"), needs=needs))
        assert found.code is Reason.FEATURES
        assert found.reason == "autotrain lacks custom-code"
        can = {"autotrain": frozenset({"custom-code", "unattended"})}
        assert plan(offer(provider="autotrain"), needs=needs, features=can).best

    def test_wishes_for_spot_on_demand_and_provider_are_kept(self, plan, requirements):
        only_spot = replace(requirements, spot=True)
        assert refused(plan(offer(), needs=only_spot)).code is Reason.SPOT_ONLY
        never = {offer().provider: frozenset[str]()}
        found = refused(plan(offer(), needs=only_spot, features=never))
        assert found.code is Reason.NO_SPOT
        assert found.reason.endswith(f"{offer().provider} sells none")
        steady = replace(requirements, spot=False)
        assert refused(plan(offer(spot=True), needs=steady)).code is Reason.ON_DEMAND_ONLY
        assert refused(plan(offer(), providers=("lambda",))).code is Reason.PROVIDER

    def test_unknown_gpus_too_few_gpus_and_small_disks_are_refused(self, plan, requirements):
        mystery = replace(offer(), gpu=unknown_gpu("MI300X", 192))
        assert refused(plan(mystery)).code is Reason.UNKNOWN_GPU
        two = replace(requirements, gpu_count=2)
        assert refused(plan(offer(), needs=two)).code is Reason.GPU_COUNT
        assert refused(plan(offer(disk_gib=5.0))).code is Reason.DISK

    def test_several_machines_train_one_adapter_whose_base_one_gpu_holds(
        self, plan, requirements, small_job, olmo, recipe
    ):
        two = offer(gpu_count=2, machines=2)
        best = plan(two).best
        assert best
        assert best.usd.expected == plan(offer(gpu_count=2)).best.usd.expected
        beside = [Task(small_job, olmo, recipe)]
        found = refused(plan(two, beside=beside))
        assert found.code is Reason.SEVERAL_MACHINES
        assert found.reason.startswith("is 2 machines")
        assert plan(offer(gpu_count=2), beside=beside).best

    def test_a_base_in_pieces_lies_on_one_machine(self, requirements, small_job, olmo, recipe):
        tasks = [Task(small_job, olmo, replace(recipe, sharding="always"))]
        two = offer(gpu_count=2, as_of="")
        assert make_plan(requirements, [two], tasks).best
        found = refused(make_plan(requirements, [replace(two, machines=2)], tasks))
        assert found.code is Reason.SEVERAL_MACHINES

    def test_every_reason_has_words(self, plan, requirements):
        from kwanzaa_compute.market.candidates import _WORDS

        assert set(_WORDS) == set(Reason)
