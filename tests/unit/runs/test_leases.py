"""Leases and watchers: who lost a run changes nothing in it."""

from dataclasses import replace
from typing import Any

import pytest

from kwanzaa_compute.errors import LeaseLostError
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptState, Lease, RunState
from kwanzaa_compute.testing.samples import sample_attempt

Hands = Any  # those of conftest.py


# -- watchers ---------------------------------------------------------------------------------


def test_a_watcher_is_present_until_it_leaves_or_falls_silent(ledger: Ledger, hands: Hands) -> None:
    ledger.be_present("a", 100)
    ledger.be_present("b", 200)
    assert ledger.watchers() == ["a", "b"]
    hands.at += 150
    assert ledger.watchers() == ["b"]
    ledger.release_all("b")
    assert ledger.watchers() == []


# -- leases -----------------------------------------------------------------------------------


def test_one_holder_at_a_time(ledger: Ledger, lease: Lease, hands: Hands) -> None:
    assert ledger.take_lease("r1", "b", 120) is None
    hands.at = lease.expires_at
    taken = ledger.take_lease("r1", "b", 120)
    assert taken is not None
    assert taken.token > lease.token


def test_a_holder_renews_its_lease_under_the_same_token(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    hands.at += 100
    renewed = ledger.take_lease("r1", "a", 120)
    assert renewed == replace(lease, expires_at=hands.at + 120)
    ledger.check_lease(lease)


def test_a_lease_that_has_run_out_is_renewed_only_if_nobody_else_had_the_run(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    hands.at = lease.expires_at + 1
    renewed = ledger.renew_lease(lease, 120)
    hands.at = renewed.expires_at + 1
    other = ledger.take_lease("r1", "b", 1)
    assert other is not None
    ledger.release_lease(other)
    with pytest.raises(LeaseLostError):
        ledger.renew_lease(renewed, 120)
    assert ledger.remember([(renewed, sample_attempt())], 120) == []


def test_a_released_lease_is_free_at_once(ledger: Ledger, lease: Lease) -> None:
    assert ledger.watcher("r1") == "a"
    ledger.release_lease(lease)
    assert ledger.watcher("r1") is None
    assert ledger.take_lease("r1", "b", 120) is not None


def test_a_late_release_does_not_end_somebody_elses_lease(
    ledger: Ledger, lease: Lease, hands: Hands
) -> None:
    hands.at = lease.expires_at
    taken = ledger.take_lease("r1", "b", 120)
    ledger.release_lease(lease)
    assert taken is not None
    ledger.check_lease(taken)


def _end_run(ledger: Ledger, lease: Lease) -> None:
    ledger.end_run(lease, RunState.DONE, "")


def _add_attempt(ledger: Ledger, lease: Lease) -> None:
    ledger.add_attempt(lease, sample_attempt(number=2, name="kwz-me-r1-2"))


def _update_attempt(ledger: Ledger, lease: Lease) -> None:
    ledger.update_attempt(lease, sample_attempt(), state=AttemptState.CLOSED)


@pytest.mark.parametrize("change", [_end_run, _add_attempt, _update_attempt])
@pytest.mark.parametrize("taken_over", [True, False])
def test_a_watcher_that_lost_its_lease_changes_nothing(
    ledger: Ledger, lease: Lease, hands: Hands, change: object, taken_over: bool
) -> None:
    assert callable(change)
    ledger.add_attempt(lease, sample_attempt())
    hands.at = lease.expires_at
    if taken_over:
        ledger.take_lease("r1", "b", 120)
    before = (ledger.run("r1"), ledger.attempts("r1"))
    with pytest.raises(LeaseLostError):
        change(ledger, lease)
    assert (ledger.run("r1"), ledger.attempts("r1")) == before
