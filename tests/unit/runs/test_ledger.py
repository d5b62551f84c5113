"""The ledger: what is written comes back, and money is counted once."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from kwanzaa_compute.errors import BudgetError, KwanzaaError, UsageError
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptState, Fault, Lease, Move, RunState, Wish
from kwanzaa_compute.testing.samples import sample_attempt, sample_run

Hands = Any  # those of conftest.py


# -- runs -------------------------------------------------------------------------------------


def test_a_run_comes_back_as_it_was_written(ledger: Ledger) -> None:
    run = sample_run(id="r2", max_usd=Decimal("0.123456"), estimate_usd=None, wish=Wish.STOP)
    ledger.add_run(run)
    assert ledger.run("r2") == run


def test_a_run_is_found_by_a_unique_beginning(ledger: Ledger) -> None:
    ledger.add_run(sample_run(id="abc-1"))
    assert ledger.run("abc").id == "abc-1"
    ledger.add_run(sample_run(id="abc"))
    assert ledger.run("abc").id == "abc"
    with pytest.raises(UsageError, match="several"):
        ledger.run("ab")


@pytest.mark.parametrize("name", ["%", "_1", "r%", "nosuch"])
def test_wildcards_find_no_run(ledger: Ledger, name: str) -> None:
    with pytest.raises(UsageError, match="no run"):
        ledger.run(name)


def test_a_wish_for_an_unknown_run_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="no run"):
        ledger.set_wish("nosuch", Wish.STOP)


def test_a_wish_to_terminate_is_not_softened_into_a_stop(ledger: Ledger) -> None:
    ledger.set_wish("r1", Wish.TERMINATE)
    ledger.set_wish("r1", Wish.STOP)
    assert ledger.run("r1").wish is Wish.TERMINATE


def test_a_run_with_an_open_attempt_cannot_end(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt())
    with pytest.raises(KwanzaaError, match="not closed"):
        ledger.end_run(lease, RunState.DONE, "")
    assert ledger.run("r1").state is RunState.RUNNING


def test_a_final_run_is_reopened_with_a_new_cap(ledger: Ledger, lease: Lease, hands: Hands) -> None:
    ledger.set_wish("r1", Wish.STOP)
    ledger.end_run(lease, RunState.CAPPED, "the cap")
    hands.at = 5000.0
    ledger.reopen("r1", candidates="[]", max_usd=Decimal(20))
    run = ledger.run("r1")
    assert (run.state, run.wish, run.max_usd) == (RunState.RUNNING, Wish.RUN, Decimal(20))
    assert (run.resumed_at, run.ended_at, run.reason) == (5000.0, None, "")


def test_a_running_run_is_not_reopened(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="still running"):
        ledger.reopen("r1", candidates="[]", max_usd=None)


# -- attempts ---------------------------------------------------------------------------------


def test_an_attempt_comes_back_as_it_was_written(ledger: Ledger, lease: Lease) -> None:
    attempt = sample_attempt(
        spot=True, ending=Move.HALT, fault=Fault.CRASHED, usd_per_hour=Decimal("1.234567")
    )
    ledger.add_attempt(lease, attempt)
    assert ledger.attempts("r1") == [attempt]
    assert ledger.open_attempts() == [attempt]


def test_a_run_has_one_open_attempt_at_a_time(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt())
    with pytest.raises(KwanzaaError, match="one open attempt"):
        ledger.add_attempt(lease, sample_attempt(number=2, name="kwz-me-r1-2"))


def test_a_price_is_never_rounded_down(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt(usd_per_hour=Decimal("1.00000001")))
    assert ledger.attempts("r1")[0].usd_per_hour > Decimal("1.00000001")


def test_a_cap_is_never_rounded_up(ledger: Ledger) -> None:
    ledger.add_run(sample_run(id="r2", max_usd=Decimal("9.9999999")))
    cap = ledger.run("r2").max_usd
    assert cap is not None
    assert cap < Decimal("9.9999999")


def test_text_that_is_no_unicode_is_kept_readable(ledger: Ledger, lease: Lease) -> None:
    attempt = sample_attempt()
    ledger.add_attempt(lease, attempt)
    ledger.update_attempt(lease, attempt, reason="half a pair: \ud800, and \0")
    ledger.note("r1", "trainer", "half a pair: \udfff", said="\ud800")
    assert ledger.attempts("r1")[0].reason.startswith("half a pair: ?")
    assert ledger.events("r1")[-1].message == "half a pair: ?"


# -- the project's cap ------------------------------------------------------------------------


def _ask(ledger: Ledger, run_id: str, **changes: object) -> None:
    lease = ledger.take_lease(run_id, "a", 120)
    assert lease is not None
    attempt = sample_attempt(
        run_id=run_id, name=f"kwz-me-{run_id}-1", state=AttemptState.INTENDED, intended_at=1000.0
    )
    ledger.add_attempt(lease, replace(attempt, max_hours=4.0, **changes))  # type: ignore[arg-type]


def test_two_runs_never_take_the_same_dollars(ledger: Ledger) -> None:
    ledger.set_project_cap(Decimal(7))
    ledger.add_run(sample_run(id="r2"))
    _ask(ledger, "r1")
    assert ledger.project_left_usd() == Decimal(3)
    with pytest.raises(BudgetError, match=r"only \$3.00 of the project's cap"):
        _ask(ledger, "r2")
    assert ledger.attempts("r2") == []


def test_the_time_that_an_end_may_take_is_taken_from_the_projects_cap(ledger: Ledger) -> None:
    ledger.set_project_cap(Decimal(10))
    _ask(ledger, "r1", reserve_s=1800.0)
    assert ledger.project_left_usd() == Decimal("5.50")


def test_what_a_closed_attempt_did_not_use_is_free_again(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    ledger.set_project_cap(Decimal(7))
    _ask(ledger, "r1")
    hands.at += 1800
    ledger.update_attempt(
        ledger.renew_lease(lease, 60),
        ledger.attempts("r1")[0],
        state=AttemptState.CLOSED,
        closed_at=hands.at,
    )
    assert ledger.project_left_usd() == Decimal("6.50")
    assert ledger.project().spent_usd == Decimal("0.50")


def test_our_own_machine_needs_nothing_of_the_projects_cap(ledger: Ledger) -> None:
    ledger.set_project_cap(Decimal(0))
    _ask(ledger, "r1", usd_per_hour=Decimal(0))


def test_without_a_cap_the_project_only_counts(ledger: Ledger) -> None:
    _ask(ledger, "r1")
    assert ledger.project_left_usd() is None
    assert ledger.project().committed_usd == Decimal(4)
    ledger.set_project_cap(Decimal(9))
    ledger.set_project_cap(None)
    assert ledger.project().max_usd is None
