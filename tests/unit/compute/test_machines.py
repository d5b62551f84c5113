"""A machine to look around on: which one, for how much, and what it is in the ledger."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.drivers.contract import Feature
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.candidates import load_offers
from kwanzaa_compute.runs.jobs import machine_job
from kwanzaa_compute.runs.records import Wish
from kwanzaa_compute.runs.spending import affordable_hours
from kwanzaa_compute.testing import FakeCloud
from kwanzaa_compute.testing.plugin import compute_over
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer

Over = Callable[..., kc.Compute]


def on(name: str, usd: str, **more: object) -> Offer:
    gpu = find_gpu(name)
    assert gpu is not None
    return sample_offer(id=name, gpu=gpu, usd_per_hour=Decimal(usd), **more)


L4, A100 = on("L4", "0.70"), on("A100-80GB", "1.90")
ARM = on("GH200", "0.50")
SPOT = replace(L4, id="spot", spot=True, usd_per_hour=Decimal("0.10"))


@pytest.fixture
def over(tmp_path: Path) -> Iterator[Over]:
    """A `Compute` over a fake cloud with these offers, to whose machines one can log in."""
    with ExitStack() as stack:

        def open_compute(
            *offers: Offer, ssh: bool = True, sold_out: tuple[str, ...] = ()
        ) -> kc.Compute:
            info = FakeCloud().info
            if ssh:
                info = replace(info, features=info.features | {Feature.SSH})
            cloud = FakeCloud(offers=offers, info=info, sold_out=sold_out)
            cloud.features = info.features
            return stack.enter_context(compute_over(cloud, tmp_path))

        yield open_compute


def chosen(compute: kc.Compute, **wish: object) -> list[str]:
    hours = {"max_hours": 4.0, **wish}
    choice = compute.choose_machine(kc.MachineWish(**hours))  # type: ignore[arg-type]
    return [offer.id for offer in choice.offers]


def test_the_cheapest_hour_comes_first(over: Over) -> None:
    assert chosen(over(A100, L4)) == ["L4", "A100-80GB"]


def test_a_gpu_that_is_named_is_the_only_one_that_will_do(over: Over) -> None:
    assert chosen(over(A100, L4), gpu="A100-80GB") == ["A100-80GB"]


def test_an_arm_machine_is_for_those_who_name_it(over: Over) -> None:
    compute = over(ARM, L4)
    assert chosen(compute) == ["L4"]
    assert chosen(compute, gpu="GH200") == ["GH200"]


def test_a_machine_that_may_be_lost_is_for_those_who_say_so(over: Over) -> None:
    compute = over(SPOT, L4)
    assert chosen(compute) == ["L4"]
    assert chosen(compute, spot=True) == ["spot"]


@pytest.mark.parametrize(
    "odd",
    [
        replace(L4, usd_per_hour=None),
        replace(L4, usd_per_hour=Decimal("NaN")),
        replace(L4, usd_per_hour=Decimal(0)),
        replace(L4, own_machine=True),
    ],
)
def test_what_has_no_price_or_costs_nothing_is_left_out(over: Over, odd: Offer) -> None:
    assert chosen(over(odd, A100)) == ["A100-80GB"]


def test_what_is_sold_out_is_left_out(over: Over) -> None:
    assert chosen(over(L4, A100, sold_out=("L4",))) == ["A100-80GB"]


def test_without_a_way_in_nothing_fits(over: Over) -> None:
    with pytest.raises(kc.NothingFitsError, match="log in"):
        chosen(over(L4, ssh=False))


@pytest.mark.parametrize("hours", [0, -1, float("inf"), float("nan")])
def test_a_machine_has_an_end(over: Over, hours: float) -> None:
    with pytest.raises(kc.UsageError, match="hours"):
        chosen(over(L4), max_hours=hours)


@pytest.mark.parametrize("step_s", [1, 60, 3600])
def test_without_a_cap_it_is_what_the_hours_cost_and_they_can_be_had(
    over: Over, step_s: int
) -> None:
    """The cap pays for all the hours that were asked for, at the dearest of the choice."""
    compute = over(replace(L4, billing_step_s=step_s), replace(A100, billing_step_s=step_s))
    choice = compute.choose_machine(kc.MachineWish(4.0))
    info = compute.catalogue.find("fake")
    for offer in choice.offers:
        hours = affordable_hours(
            choice.max_usd,
            offer.usd_per_hour or Decimal(0),
            billing_step_s=step_s,
            minimum_s=0,
            stop_reserve_s=info.stop_reserve_s + info.settle_s,
            max_hours=4.0,
        )
        assert hours == pytest.approx(4.0)
    assert choice.max_usd <= Decimal("1.90") * (4 + 3 * max(step_s, 60) // 3600 + 1)


def test_a_cap_that_pays_for_nothing_is_refused(over: Over) -> None:
    with pytest.raises(kc.BudgetError, match="costs up to"):
        chosen(over(L4), max_usd=Decimal("0.01"))


def test_in_the_ledger_it_is_a_run_that_trains_nothing(over: Over) -> None:
    compute = over(L4, A100)
    run = compute.provision(compute.choose_machine(kc.MachineWish(4.0, max_usd=Decimal(9))))
    record = compute.run("machine-").record
    assert record.id == run.id
    assert (record.trains, record.wish, record.max_usd) == (False, Wish.RUN, Decimal(9))
    assert [offer.id for offer in load_offers(record.candidates)] == ["L4", "A100-80GB"]
    assert run.attempts == []
    assert b"machine" in run.folder.store.get("run.json")


def test_it_is_told_to_be_there_and_gets_no_secret(over: Over) -> None:
    compute = over(L4)
    run = compute.provision(compute.choose_machine(kc.MachineWish(4.0)))
    job = machine_job(run.record, sample_attempt(max_hours=2.5), disk_gib=50.0)
    assert job.argv == ("sleep", "9000")
    assert (job.env, job.secrets, job.max_hours) == ({}, {}, 2.5)


def test_one_that_has_ended_is_not_resumed(over: Over) -> None:
    compute = over(L4)
    run = compute.provision(compute.choose_machine(kc.MachineWish(4.0)))
    run.terminate()
    run.wait(poll_s=1)
    assert run.state is kc.RunState.STOPPED
    with pytest.raises(kc.UsageError, match="provision"):
        compute.resume(run.id)


def test_there_is_no_way_in_to_a_machine_that_is_not_there(over: Over) -> None:
    compute = over(L4)
    run = compute.provision(compute.choose_machine(kc.MachineWish(4.0)))
    with pytest.raises(kc.UsageError, match="no machine now"):
        run.ssh()
