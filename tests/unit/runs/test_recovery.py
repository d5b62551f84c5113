"""Where a run goes next: launch, pause or end, and why."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.candidates import dump_prospects, load_prospects
from kwanzaa_compute.runs.records import (
    USUAL_DISK_GIB,
    AttemptRecord,
    AttemptState,
    Fault,
    Move,
    Prospect,
    RunRecord,
    RunState,
    Wish,
)
from kwanzaa_compute.runs.recovery import COOL_DOWN_S, End, Launch, Pause, intent, next_launch
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer, sample_run

CHEAP = sample_offer(id="cheap", usd_per_hour=Decimal("0.50"))
DEAR = sample_offer(id="dear", usd_per_hour=Decimal("2.00"))
NOW = 100_000.0


def closed(number: int = 1, **changes: object) -> AttemptRecord:
    settled: dict[str, object] = {
        "number": number,
        "offer_id": "cheap",
        "state": AttemptState.CLOSED,
        "intended_at": number * 1000.0,
        "closed_at": number * 1000.0 + 500,
        "ending": Move.RELAUNCH,
        "reason": f"reason {number}",
    }
    return sample_attempt(**(settled | changes))


def decided(
    *attempts: AttemptRecord,
    run: RunRecord | None = None,
    offers: tuple[Offer, ...] = (CHEAP, DEAR),
) -> Launch | Pause | End:
    prospects = [Prospect(offer) for offer in offers]
    return next_launch(run or sample_run(), attempts, prospects, NOW, 60.0)


def launched(*attempts: AttemptRecord, **more: object) -> str:
    verdict = decided(*attempts, **more)  # type: ignore[arg-type]
    assert isinstance(verdict, Launch)
    return verdict.offer.id


def ended(*attempts: AttemptRecord, **more: object) -> RunState:
    verdict = decided(*attempts, **more)  # type: ignore[arg-type]
    assert isinstance(verdict, End)
    assert verdict.reason
    return verdict.state


def test_the_best_offer_is_launched_first() -> None:
    assert launched() == "cheap"


def test_a_run_that_was_stopped_before_its_first_launch_never_launches() -> None:
    assert ended(run=sample_run(wish=Wish.STOP)) is RunState.STOPPED


@pytest.mark.parametrize(
    ("ending", "wish", "state"),
    [
        (Move.FINISH, Wish.RUN, RunState.DONE),
        (Move.FINISH, Wish.TERMINATE, RunState.DONE),
        (Move.FAIL, Wish.RUN, RunState.FAILED),
        (Move.HALT, Wish.RUN, RunState.CAPPED),
        (Move.HALT, Wish.STOP, RunState.STOPPED),
        (Move.RELAUNCH, Wish.STOP, RunState.STOPPED),
        (Move.RELAUNCH, Wish.TERMINATE, RunState.STOPPED),
    ],
)
def test_how_the_last_attempt_ended_says_how_the_run_ends(
    ending: Move, wish: Wish, state: RunState
) -> None:
    assert ended(closed(ending=ending), run=sample_run(wish=wish)) is state


def test_a_request_that_can_never_succeed_fails_the_run() -> None:
    assert ended(closed(fault=Fault.INVALID)) is RunState.FAILED


def test_three_crashes_without_a_new_checkpoint_fail_the_run() -> None:
    crashed = [closed(n, fault=Fault.CRASHED, checkpoint="ckpt-10-1") for n in (1, 2, 3)]
    assert launched(*crashed[:2]) == "cheap"
    assert ended(*crashed) is RunState.FAILED


def test_crashes_that_made_progress_do_not_fail_the_run() -> None:
    assert launched(*(closed(n, fault=Fault.CRASHED, checkpoint=f"ckpt-{n}") for n in (1, 2, 3)))


def test_preemptions_never_fail_a_run() -> None:
    assert launched(*(closed(n, fault=Fault.PREEMPTED) for n in range(1, 9)))


def test_the_place_that_just_took_a_machine_back_comes_last() -> None:
    taken = closed(fault=Fault.PREEMPTED, intended_at=NOW - 90, closed_at=NOW - 60)
    assert launched(taken) == "dear"
    assert (
        launched(taken, closed(2, offer_id="dear", intended_at=NOW - 30, closed_at=NOW - 10))
        == "dear"
    )
    assert launched(taken, offers=(CHEAP,)) == "cheap"


def test_after_a_cool_down_that_place_is_as_good_as_any() -> None:
    ended_at = NOW - COOL_DOWN_S
    taken = closed(fault=Fault.PREEMPTED, intended_at=ended_at - 60, closed_at=ended_at)
    assert launched(taken) == "cheap"


def test_a_sold_out_offer_is_not_tried_again() -> None:
    sold_out = closed(fault=Fault.CAPACITY)
    assert launched(sold_out) == "dear"
    assert ended(sold_out, offers=(CHEAP,)) is RunState.NO_CAPACITY


@pytest.mark.parametrize("fault", [Fault.QUOTA, Fault.CREDENTIALS])
def test_a_provider_that_refuses_us_is_left(fault: Fault) -> None:
    elsewhere = sample_offer(provider="other", id="far")
    assert launched(closed(fault=fault), offers=(CHEAP, DEAR, elsewhere)) == "far"


@pytest.mark.parametrize(
    ("faults", "state"),
    [
        ((Fault.QUOTA,), RunState.NO_QUOTA),
        ((Fault.CREDENTIALS,), RunState.NO_ACCESS),
        ((Fault.QUOTA, Fault.CREDENTIALS), RunState.NO_ACCESS),
        ((Fault.CAPACITY, Fault.CREDENTIALS), RunState.NO_CAPACITY),
    ],
)
def test_a_run_that_nobody_takes_says_what_would_mend_it(
    faults: tuple[Fault, ...], state: RunState
) -> None:
    offers = tuple(sample_offer(provider=f"p{n}", id="cheap") for n in range(len(faults)))
    attempts = [closed(n + 1, provider=f"p{n}", fault=fault) for n, fault in enumerate(faults)]
    assert ended(*attempts, offers=offers) is state


def test_a_place_that_fails_again_and_again_comes_last() -> None:
    faults = [
        closed(n, fault=Fault.TRANSIENT, intended_at=NOW - 900 + n, closed_at=NOW - 900 + n)
        for n in (1, 2, 3, 4)
    ]
    assert launched(faults[0]) == "cheap"
    assert launched(*faults[:2]) == "dear"
    there = [replace(a, offer_id="dear") for a in faults[2:]]
    assert launched(*faults[:2], *there) == "cheap"  # no place is given up for good


def test_the_time_that_a_provider_asks_for_is_waited_out() -> None:
    limited = closed(fault=Fault.TRANSIENT, closed_at=NOW, intended_at=0.0, retry_at=NOW + 50)
    verdict = decided(limited)
    assert isinstance(verdict, Pause)
    assert verdict.until == NOW + 50


def test_the_projects_cap_shortens_a_run_and_ends_it() -> None:
    run, offers = sample_run(max_usd=Decimal(5)), (Prospect(CHEAP),)
    verdict = next_launch(run, [], offers, NOW, 60.0, project_left_usd=Decimal(1))
    assert isinstance(verdict, Launch)
    assert verdict.max_hours == pytest.approx(2 - 60 / 3600)
    end = next_launch(run, [], offers, NOW, 60.0, project_left_usd=Decimal(0))
    assert isinstance(end, End)
    assert (end.state, "project's cap" in end.reason) == (RunState.CAPPED, True)


def test_passing_faults_are_waited_out_for_longer_and_longer() -> None:
    untils = []
    for count in (1, 2, 3, 12):
        faults = [
            closed(n, fault=Fault.TRANSIENT, closed_at=NOW, intended_at=0.0)
            for n in range(1, count + 1)
        ]
        verdict = decided(*faults)
        assert isinstance(verdict, Pause)
        untils.append(verdict.until - NOW)
    assert untils == [4.0, 8.0, 16.0, 120.0]


def test_a_pause_that_has_passed_is_over() -> None:
    assert (
        launched(closed(fault=Fault.TRANSIENT, intended_at=NOW - 9, closed_at=NOW - 4)) == "cheap"
    )


def test_an_ended_wish_does_not_wait_for_a_pause() -> None:
    passing = closed(fault=Fault.TRANSIENT, closed_at=NOW)
    assert ended(passing, run=sample_run(wish=Wish.STOP)) is RunState.STOPPED


def test_what_earlier_attempts_cost_shortens_the_next_one() -> None:
    spent_hour = closed(intended_at=0.0, closed_at=3600.0, usd_per_hour=Decimal("9.50"))
    verdict = decided(spent_hour, offers=(CHEAP,))
    assert isinstance(verdict, Launch)
    assert verdict.max_hours == pytest.approx(1.0 - 60 / 3600, abs=1e-3)


def test_an_offer_that_the_rest_of_the_cap_does_not_pay_for_is_passed_over() -> None:
    run = sample_run(max_usd=Decimal("0.50"))
    by_the_hour = sample_offer(id="hourly", minimum_s=3600)
    assert launched(run=run, offers=(by_the_hour, CHEAP)) == "cheap"
    assert ended(run=run, offers=(by_the_hour,)) is RunState.CAPPED


def test_the_time_limit_ends_a_run() -> None:
    lived = closed(intended_at=0.0, closed_at=36_000.0, usd_per_hour=Decimal("0.01"))
    assert ended(lived) is RunState.CAPPED


@pytest.mark.parametrize("price", [None, "0", "-1", "NaN", "Infinity"])
def test_a_price_that_is_no_price_is_never_launched(price: str | None) -> None:
    odd = sample_offer(id="odd", usd_per_hour=None if price is None else Decimal(price))
    assert launched(offers=(odd, DEAR)) == "dear"
    assert ended(offers=(odd,)) is RunState.CAPPED


def test_our_own_machine_needs_no_price() -> None:
    assert launched(offers=(sample_offer(id="here", usd_per_hour=None, own_machine=True),))


def test_faults_from_before_a_resume_are_history_but_their_cost_is_not() -> None:
    old = closed(
        fault=Fault.INVALID, intended_at=0.0, closed_at=3600.0, usd_per_hour=Decimal("9.50")
    )
    verdict = decided(old, run=sample_run(resumed_at=5000.0), offers=(CHEAP,))
    assert isinstance(verdict, Launch)
    assert verdict.max_hours < 1.0


def test_a_plan_without_offers_ends_with_its_reason() -> None:
    assert ended(offers=()) is RunState.NO_CAPACITY


def test_an_intent_carries_owner_run_and_attempt_in_its_name_and_goes_on_from_the_checkpoint() -> (
    None
):
    last = closed(2, checkpoint="ckpt-40-2")
    attempt = intent(sample_run(), Launch(DEAR, 2.5), last, NOW)
    assert (attempt.name, attempt.number) == ("kwz-me-r1-3", 3)
    assert (attempt.checkpoint, attempt.max_hours, attempt.intended_at) == ("ckpt-40-2", 2.5, NOW)
    assert (attempt.state, attempt.machine_id) == (AttemptState.INTENDED, "")
    assert attempt.usd_per_hour == DEAR.usd_per_hour
    assert intent(sample_run(), Launch(DEAR, 2.5), None, NOW).name == "kwz-me-r1-1"


def test_a_machine_without_a_trainer_that_had_its_time_is_no_failure() -> None:
    run = sample_run(CHEAP, config="")
    verdict = decided(closed(ending=Move.HALT), run=run)
    assert isinstance(verdict, End)
    assert verdict.state is RunState.STOPPED


def test_a_machine_is_asked_for_with_the_disk_that_the_run_needs() -> None:
    (kept,) = load_prospects(dump_prospects([Prospect(CHEAP, disk_gib=76.5)]))
    verdict = next_launch(sample_run(), [], [kept], NOW, 60.0)
    assert isinstance(verdict, Launch)
    assert verdict.disk_gib == 76.5


def test_candidates_of_an_older_ledger_get_the_usual_disk() -> None:
    rows = [
        {name: value for name, value in row.items() if name != "needs_disk_gib"}
        for row in json.loads(dump_prospects([Prospect(CHEAP, disk_gib=76.5)]))
    ]
    assert [p.disk_gib for p in load_prospects(json.dumps(rows))] == [USUAL_DISK_GIB]
