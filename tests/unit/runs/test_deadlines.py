"""When a run with a deadline is on spot, waits, or goes on-demand; and when it changes over."""

from dataclasses import replace
from decimal import Decimal

import pytest

from kwanzaa_compute.market.offers import Availability
from kwanzaa_compute.runs.deadlines import outlook, reason_to_leave, share_left, stake
from kwanzaa_compute.runs.records import (
    AttemptRecord,
    AttemptState,
    Fault,
    Move,
    Prospect,
    RunRecord,
    RunState,
)
from kwanzaa_compute.runs.recovery import SOLD_OUT_S, End, Launch, Pause, next_launch
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer, sample_run

HOUR = 3600.0
SET_UP, CHECKPOINT, WORK = 600.0, 300.0, 10 * HOUR
STEPS = 100


def prospect(name: str, usd: str, *, spot: bool = True, **changes: object) -> Prospect:
    offer = sample_offer(id=name, region=name, spot=spot, usd_per_hour=Decimal(usd), **changes)
    return Prospect(offer, SET_UP, WORK, CHECKPOINT)


SOUTH, WEST, FIRM = (
    prospect("south", "0.50"),
    prospect("west", "0.60"),
    prospect("firm", "3.00", spot=False),
)
ALL = (SOUTH, WEST, FIRM)


def sold_out(*prospects: Prospect) -> list[Prospect]:
    """All prospects, these without a machine."""
    return [
        replace(p, offer=replace(p.offer, availability=Availability.SOLD_OUT))
        if p in prospects
        else p
        for p in ALL
    ]


def run(deadline_h: float | None = 20.0, **changes: object) -> RunRecord:
    at = None if deadline_h is None else deadline_h * HOUR
    return sample_run(deadline_at=at, max_usd=Decimal(1000), max_hours=1000.0, **changes)


def attempt(
    at: Prospect, began_h: float, ended_h: float | None, **changes: object
) -> AttemptRecord:
    closed = ended_h is not None
    made = sample_attempt(
        offer_id=at.offer.id,
        region=at.offer.region,
        spot=at.offer.spot,
        usd_per_hour=at.offer.usd_per_hour,
        intended_at=began_h * HOUR,
        closed_at=ended_h * HOUR if ended_h is not None else None,
        state=AttemptState.CLOSED if closed else AttemptState.LIVE,
        ending=Move.RELAUNCH if closed else None,
        fault=Fault.PREEMPTED if closed and at.offer.spot else Fault.NONE,
        total_steps=STEPS,
        phase="train",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def verdict(
    *attempts: AttemptRecord,
    now_h: float = 0.0,
    prospects: list[Prospect] | tuple[Prospect, ...] = ALL,
    of: RunRecord | None = None,
    handover_s: float = 0.0,
) -> Launch | Pause | End:
    return next_launch(of or run(), attempts, prospects, now_h * HOUR, 60.0, handover_s=handover_s)


def place(said: Launch | Pause | End) -> str:
    assert isinstance(said, Launch), said
    return said.offer.id


def test_with_slack_the_cheapest_spot_machine_comes_first() -> None:
    said = verdict()
    assert place(said) == "south"
    assert isinstance(said, Launch)
    assert "slack" in said.why


def test_after_a_preemption_another_spot_place_is_tried_before_on_demand() -> None:
    assert place(verdict(attempt(SOUTH, 0, 1), now_h=1)) == "west"
    assert place(verdict(attempt(SOUTH, 0, 1), now_h=1.5)) == "south"


def test_where_spot_is_sold_out_the_run_waits_as_long_as_there_is_slack() -> None:
    said = verdict(prospects=sold_out(SOUTH, WEST))
    assert isinstance(said, Pause)
    assert "waiting" in said.reason


def test_without_slack_on_demand_takes_over() -> None:
    tight = run(10.5)
    assert place(verdict(of=tight, prospects=sold_out(SOUTH, WEST))) == "firm"
    # 10 min of set-up and 10 h of work leave 20 min: a spot machine that is lost costs 15.
    assert place(verdict(of=tight)) == "south"
    assert place(verdict(of=tight, now_h=0.1)) == "firm"


def test_a_slow_change_of_machines_takes_slack_as_well() -> None:
    assert place(verdict(of=run(10.5), handover_s=360.0)) == "firm"


def test_saved_work_is_slack_won_back() -> None:
    lost = attempt(WEST, 0, 9, checkpoint="ckpt-80-1")
    assert place(verdict(lost, now_h=17)) == "south"
    assert place(verdict(replace(lost, checkpoint="ckpt-60-1"), now_h=17)) == "firm"


def test_spot_that_only_loses_money_is_given_up_after_one_restart() -> None:
    # A restart on-demand is 15 min at $3, $0.75; each lost machine here cost 25 cents.
    lost = [attempt(SOUTH, n, n + 0.5) for n in (0.0, 0.5)]
    assert place(verdict(*lost, now_h=1.0)) == "west"
    lost += [attempt(WEST, 1.0, 1.5), attempt(SOUTH, 1.5, 2.0)]
    said = verdict(*lost, now_h=2.0)
    assert place(said) == "firm"
    assert isinstance(said, Launch)
    assert "lost as much as it may" in said.why


def test_what_spot_has_saved_may_be_lost_on_spot() -> None:
    saved = attempt(SOUTH, 0, 5, checkpoint="ckpt-40-1")
    lost = [attempt(WEST, 5 + n / 2, 5.5 + n / 2, checkpoint="ckpt-40-1") for n in range(8)]
    assert isinstance(verdict(saved, *lost, now_h=9.0), Launch)
    assert place(verdict(saved, *lost, now_h=9.0)) == "south"


@pytest.mark.parametrize("price", [None, "0", "-1", "NaN", "Infinity"])
def test_a_price_that_is_no_price_is_not_taken_for_a_cheap_one(price: str | None) -> None:
    usd = None if price is None else Decimal(price)
    odd = replace(SOUTH, offer=replace(SOUTH.offer, usd_per_hour=usd))
    assert place(verdict(prospects=(odd, WEST, FIRM))) == "west"
    odd_firm = replace(FIRM, offer=replace(FIRM.offer, usd_per_hour=usd))
    assert place(verdict(prospects=(WEST, odd_firm))) == "west"


def test_spot_that_is_dearer_than_on_demand_is_not_taken() -> None:
    dear = prospect("dear", "3.50")
    assert place(verdict(prospects=(dear, FIRM))) == "firm"


def test_of_several_on_demand_machines_the_cheapest_that_makes_it_is_the_fallback() -> None:
    quick = Prospect(
        sample_offer(id="quick", usd_per_hour=Decimal(15)), SET_UP, WORK / 4, CHECKPOINT
    )
    gone = [*sold_out(SOUTH, WEST), quick]
    assert place(verdict(of=run(10.5), prospects=gone)) == "firm"
    assert place(verdict(of=run(10.5), prospects=gone, now_h=7.7)) == "quick"


def test_a_deadline_that_cannot_be_kept_is_missed_by_as_little_as_can_be() -> None:
    assert place(verdict(of=run(9.0))) == "firm"


def test_after_the_deadline_the_cheapest_place_is_best_again() -> None:
    assert place(verdict(now_h=21.0)) == "south"


def test_what_was_sold_out_is_asked_again_before_the_deadline() -> None:
    refused = attempt(SOUTH, 1, 1, fault=Fault.CAPACITY, reason="no capacity")
    only = (SOUTH, FIRM)
    assert isinstance(verdict(refused, now_h=1, prospects=only), Pause)
    assert place(verdict(refused, now_h=1 + SOLD_OUT_S / HOUR, prospects=only)) == "south"


def test_without_a_deadline_sold_out_is_for_good() -> None:
    refused = attempt(SOUTH, 1, 1, fault=Fault.CAPACITY, reason="no capacity")
    said = verdict(refused, now_h=9, of=run(None), prospects=(SOUTH,))
    assert isinstance(said, End)
    assert said.state is RunState.NO_CAPACITY


def test_without_any_on_demand_machine_the_run_waits_for_spot() -> None:
    gone = sold_out(SOUTH, WEST)[:2]
    assert isinstance(verdict(prospects=gone), Pause)
    assert isinstance(verdict(prospects=gone, now_h=21), Launch)


def test_nobody_waits_for_a_provider_that_refuses_us() -> None:
    refused = attempt(SOUTH, 1, 1, fault=Fault.CREDENTIALS, reason="a revoked key")
    said = verdict(refused, now_h=1)
    assert isinstance(said, End)
    assert said.state is RunState.NO_ACCESS
    elsewhere = replace(FIRM, offer=replace(FIRM.offer, provider="other"))
    assert place(verdict(refused, now_h=1, prospects=(SOUTH, elsewhere))) == "firm"


def test_the_cap_is_above_the_deadline() -> None:
    poor = replace(run(10.0), max_usd=Decimal("0.10"))
    said = verdict(of=poor, now_h=0.5)
    assert isinstance(said, Launch)
    assert said.offer.usd_per_hour * Decimal(said.max_hours) < Decimal("0.10")


# -- leaving a machine that works ---------------------------------------------------------------


def leaving(
    last: AttemptRecord,
    *before: AttemptRecord,
    now_h: float,
    prospects: list[Prospect] | tuple[Prospect, ...] = ALL,
) -> str:
    return reason_to_leave(run(), [*before, last], prospects, now_h * HOUR, 0.0)


def test_on_demand_is_left_when_spot_is_back_and_there_is_slack() -> None:
    firm = attempt(FIRM, 5, None, step=10)
    assert "spot machines are back" in leaving(firm, now_h=6)


def test_on_demand_is_kept_while_spot_is_sold_out() -> None:
    assert leaving(attempt(FIRM, 5, None, step=10), now_h=6, prospects=[FIRM]) == ""


def test_on_demand_is_kept_when_there_is_no_slack_to_come_back() -> None:
    assert leaving(attempt(FIRM, 10, None, step=10), now_h=10.7) == ""


def test_on_demand_is_kept_until_its_set_up_has_paid_off() -> None:
    assert leaving(attempt(FIRM, 5, None, phase="load"), now_h=5.1) == ""


def test_on_demand_is_kept_for_what_little_is_left() -> None:
    assert leaving(attempt(FIRM, 1, None, step=98), now_h=11) == ""


def test_on_demand_is_kept_where_spot_has_lost_its_stake() -> None:
    lost = [attempt(SOUTH, n / 2, n / 2 + 0.5) for n in range(4)]
    assert leaving(attempt(FIRM, 2, None, step=10), *lost, now_h=3.2) == ""


def test_a_spot_machine_that_is_too_slow_is_left_in_time() -> None:
    on_time = attempt(SOUTH, 0, None, step=60)
    assert leaving(on_time, now_h=15.0) == ""
    assert "on-demand from here" in leaving(replace(on_time, step=50), now_h=15.0)


def test_without_a_deadline_no_machine_is_left() -> None:
    firm = attempt(FIRM, 5, None, step=10)
    assert reason_to_leave(run(None), [firm], ALL, 6 * HOUR, 0.0) == ""


# -- what is left -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checkpoint", "share"),
    [("ckpt-25-1", 0.75), ("", 1.0), ("ckpt-x-1", 1.0), ("ckpt-900-1", 0.0), ("²", 1.0)],
)
def test_the_share_that_is_left_is_read_from_the_checkpoints_name(
    checkpoint: str, share: float
) -> None:
    assert share_left([attempt(SOUTH, 0, 1, checkpoint=checkpoint)]) == share


def test_before_the_trainer_has_counted_its_steps_all_is_left() -> None:
    assert share_left([attempt(SOUTH, 0, 1, checkpoint="ckpt-25-1", total_steps=0)]) == 1.0
    assert share_left([]) == 1.0


def test_nothing_is_said_of_deadlines_where_no_time_is_known() -> None:
    unknown = [replace(p, work_s=0.0) for p in ALL]
    assert outlook(run(), [], unknown, 0.0, 0.0) is None
    assert place(verdict(prospects=unknown)) == "south"


def test_the_bound_is_what_on_demand_costs_since_spot_first_had_nothing() -> None:
    saved = attempt(SOUTH, 0, 5, checkpoint="ckpt-40-1")
    from_start = stake(run(), [saved], FIRM, 5 * HOUR)
    assert from_start.bound_usd == Decimal(3) * Decimal(WORK + SET_UP) / 3600
    assert from_start.spent_usd == Decimal("2.50")
    waited = stake(run(), [saved], FIRM, 6 * HOUR)
    assert waited.bound_usd == Decimal("2.50") + Decimal(3) * Decimal(0.6 * WORK + SET_UP) / 3600
