"""The lifecycle's one function: each branch, and what holds for every input."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.runs.lifecycle import (
    LEAST_QUIET_S,
    MOST_QUIET_S,
    QUIET_S,
    Attempt,
    Limits,
    decide,
)
from kwanzaa_compute.runs.records import ENDINGS, AttemptState, Move, Wish
from kwanzaa_compute.store import Failure, Heartbeat

LIMITS = Limits(settle_s=60, boot_s=900, max_age_s=36000, stop_reserve_s=60, stop_grace_s=300)
INTENDED = Attempt(AttemptState.INTENDED, age_s=10)
LIVE = Attempt(AttemptState.LIVE, age_s=1000, quiet_s=5)
ENDING = Attempt(AttemptState.ENDING, age_s=1000)
RUNNING = Sighting("m-1", Phase.RUNNING)
GONE = Sighting("m-1", Phase.GONE)
BEAT = Heartbeat(sequence=3, phase="train", attempt=1)


def move(
    attempt: Attempt,
    sighting: Sighting | None = RUNNING,
    beat: Heartbeat | None = BEAT,
    limits: Limits = LIMITS,
) -> Move:
    return decide(sighting, beat, attempt, limits)[0]


# -- a machine without a trainer ----------------------------------------------------------------

ALONE = replace(LIVE, trains=False)


def test_a_machine_without_a_trainer_is_left_alone_however_long_it_is_silent() -> None:
    assert move(replace(ALONE, quiet_s=1e6), RUNNING, None) is Move.WAIT
    assert move(replace(ALONE, store_read=False), None, None) is Move.WAIT


@pytest.mark.parametrize("phase", [Phase.PREEMPTED, Phase.EXITED])
def test_what_ends_a_machine_without_a_trainer_ends_its_run(phase: Phase) -> None:
    assert move(ALONE, Sighting("m-1", phase), None) is Move.HALT


@pytest.mark.parametrize(("absent_s", "wanted"), [(59.9, Move.WAIT), (60.0, Move.HALT)])
def test_a_machine_without_a_trainer_is_gone_when_that_is_proven(
    absent_s: float, wanted: Move
) -> None:
    assert move(replace(ALONE, absent_s=absent_s), GONE, None) is wanted


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.STARTING])
def test_a_machine_without_a_trainer_that_does_not_start_is_replaced(phase: Phase) -> None:
    assert move(replace(ALONE, age_s=899), Sighting("m-1", phase), None) is Move.WAIT
    assert move(replace(ALONE, age_s=900), Sighting("m-1", phase), None) is Move.RELAUNCH


@pytest.mark.parametrize("wish", [Wish.STOP, Wish.TERMINATE])
def test_a_machine_without_a_trainer_ends_at_once_when_the_user_wishes_it(wish: Wish) -> None:
    assert move(replace(ALONE, wish=wish)) is Move.HALT


def test_a_machine_without_a_trainer_ends_when_its_time_is_used_up() -> None:
    assert move(replace(ALONE, age_s=35999)) is Move.WAIT
    assert move(replace(ALONE, age_s=36000)) is Move.HALT


# -- a launch whose outcome is not known ------------------------------------------------------


def test_an_uncertain_launch_waits_while_the_provider_cannot_be_asked() -> None:
    assert move(replace(INTENDED, age_s=1e6, absent_s=1e6), None) is Move.WAIT


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.GONE])
def test_an_uncertain_launch_adopts_a_machine_in_any_phase(phase: Phase) -> None:
    assert move(INTENDED, Sighting("m-9", phase)) is Move.ADOPT


@pytest.mark.parametrize("absent_s", [None, 0.0, 59.9])
def test_an_uncertain_launch_is_not_given_up_within_the_settle_window(
    absent_s: float | None,
) -> None:
    assert move(replace(INTENDED, age_s=100, absent_s=absent_s), GONE) is Move.WAIT


def test_a_launch_younger_than_the_settle_window_is_not_given_up() -> None:
    assert move(replace(INTENDED, age_s=59, absent_s=60), GONE) is Move.WAIT


def test_a_launch_that_created_nothing_is_closed_after_the_settle_window() -> None:
    assert move(replace(INTENDED, age_s=61, absent_s=60), GONE) is Move.CLOSE


def test_an_uncertain_launch_is_adopted_first_when_the_user_wishes_its_end() -> None:
    assert move(replace(INTENDED, wish=Wish.TERMINATE)) is Move.ADOPT


# -- a better place ---------------------------------------------------------------------------

BETTER = replace(LIVE, better_elsewhere="spot machines are back")
LEAVING = replace(LIVE, leaving=True, asked_to_stop_s=20.0)


def test_a_machine_that_works_is_left_for_a_better_place_after_it_has_saved() -> None:
    assert decide(RUNNING, BEAT, BETTER, LIMITS) == (Move.LEAVE, "spot machines are back")
    assert move(LEAVING) is Move.WAIT
    saved = Failure(1, "spot machines are back", retryable=True, stopped=True)
    assert move(replace(LEAVING, failure=saved)) is Move.RELAUNCH


def test_nobody_is_asked_to_leave_twice_or_after_being_asked_to_stop() -> None:
    assert move(replace(BETTER, asked_to_stop_s=20.0)) is Move.WAIT
    assert move(replace(BETTER, leaving=True, asked_to_stop_s=20.0)) is Move.WAIT


def test_a_machine_whose_trainer_has_not_begun_is_left_at_once() -> None:
    assert move(LEAVING, RUNNING, None) is Move.RELAUNCH
    assert move(replace(LEAVING, store_read=False), RUNNING, None) is Move.WAIT


def test_a_trainer_that_does_not_hear_is_left_without_its_last_steps() -> None:
    deaf = replace(LEAVING, asked_to_stop_s=LIMITS.stop_grace_s)
    assert move(deaf) is Move.RELAUNCH
    assert move(replace(deaf, wish=Wish.STOP)) is Move.HALT


def test_every_other_reason_comes_before_a_better_place() -> None:
    assert move(replace(BETTER, done=True)) is Move.FINISH
    assert move(replace(BETTER, wish=Wish.STOP)) is Move.ASK_TO_STOP
    assert move(replace(BETTER, age_s=LIMITS.max_age_s)) is Move.HALT
    assert move(BETTER, Sighting("m-1", Phase.PREEMPTED)) is Move.RELAUNCH


# -- what the trainer says --------------------------------------------------------------------


def test_the_done_marker_finishes_whatever_else_is_seen() -> None:
    failed = Failure(1, "boom", retryable=False)
    late = replace(LIVE, done=True, failure=failed, wish=Wish.TERMINATE, age_s=1e9)
    assert move(late, GONE) is Move.FINISH


def test_a_failure_that_cannot_be_mended_fails_the_run() -> None:
    failed = replace(LIVE, failure=Failure(1, "bad data", retryable=False))
    assert decide(RUNNING, BEAT, failed, LIMITS) == (Move.FAIL, "bad data")


def test_a_retryable_failure_is_tried_elsewhere() -> None:
    failed = replace(LIVE, failure=Failure(1, "the GPU fell off", retryable=True))
    assert decide(RUNNING, BEAT, failed, LIMITS) == (Move.RELAUNCH, "the GPU fell off")


def test_a_trainer_that_stopped_as_it_was_asked_halts() -> None:
    stopped = Failure(1, "asked to", retryable=True, stopped=True)
    assert move(replace(LIVE, failure=stopped, asked_to_stop_s=5)) is Move.HALT


def test_a_trainer_that_was_stopped_by_its_machine_is_relaunched() -> None:
    stopped = Failure(1, "SIGTERM", retryable=True, stopped=True)
    assert move(replace(LIVE, failure=stopped)) is Move.RELAUNCH


# -- what the user, the cap and the clock say -------------------------------------------------


def test_a_termination_does_not_wait_for_a_checkpoint() -> None:
    assert move(replace(LIVE, wish=Wish.TERMINATE)) is Move.HALT


def test_a_stop_asks_for_a_checkpoint_once() -> None:
    assert move(replace(LIVE, wish=Wish.STOP)) is Move.ASK_TO_STOP
    assert move(replace(LIVE, wish=Wish.STOP, asked_to_stop_s=1)) is Move.WAIT


def test_a_stop_that_brings_no_checkpoint_halts_after_its_grace() -> None:
    assert move(replace(LIVE, wish=Wish.STOP, asked_to_stop_s=300)) is Move.HALT


def test_an_attempt_whose_time_is_nearly_up_is_asked_for_a_checkpoint_once() -> None:
    old = replace(LIVE, age_s=LIMITS.max_age_s - 60)
    assert move(old) is Move.ASK_TO_STOP
    assert move(replace(old, asked_to_stop_s=1)) is Move.WAIT


def test_an_attempt_whose_time_is_up_halts_even_if_the_provider_cannot_be_asked() -> None:
    assert move(replace(LIVE, age_s=LIMITS.max_age_s), None, None) is Move.HALT


# -- what the provider says -------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.PREEMPTED, Phase.EXITED])
def test_a_machine_that_was_taken_back_or_ended_early_is_replaced(phase: Phase) -> None:
    assert move(LIVE, Sighting("m-1", phase, exit_code=1)) is Move.RELAUNCH


@pytest.mark.parametrize(
    ("code", "words"),
    [(None, "no exit code known"), (-9, "signal 9"), (3, "exit code 3")],
)
def test_an_early_exit_says_how_it_ended(code: int | None, words: str) -> None:
    _, reason = decide(Sighting("m-1", Phase.EXITED, exit_code=code), BEAT, LIVE, LIMITS)
    assert words in reason


@pytest.mark.parametrize("absent_s", [None, 59.9])
def test_one_gone_is_not_believed(absent_s: float | None) -> None:
    assert move(replace(LIVE, absent_s=absent_s), GONE) is Move.WAIT


def test_a_machine_absent_for_a_whole_settle_window_is_replaced() -> None:
    assert move(replace(LIVE, absent_s=60), GONE) is Move.RELAUNCH


def test_an_absence_that_is_not_confirmed_by_this_look_decides_nothing() -> None:
    assert move(replace(LIVE, absent_s=None), None) is Move.WAIT


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.STOPPING])
def test_a_machine_at_work_is_left_alone(phase: Phase) -> None:
    assert move(LIVE, Sighting("m-1", phase)) is Move.WAIT


# -- silence ----------------------------------------------------------------------------------


def test_a_machine_without_a_sign_of_the_trainer_is_replaced_after_the_boot_deadline() -> None:
    assert move(replace(LIVE, quiet_s=899), RUNNING, None) is Move.WAIT
    assert move(replace(LIVE, quiet_s=900), RUNNING, None) is Move.RELAUNCH


@pytest.mark.parametrize("phase", sorted(QUIET_S))
def test_each_phase_has_a_patience_of_its_own(phase: str) -> None:
    beat = replace(BEAT, phase=phase)
    assert move(replace(LIVE, quiet_s=QUIET_S[phase] - 1), RUNNING, beat) is Move.WAIT
    assert move(replace(LIVE, quiet_s=QUIET_S[phase]), RUNNING, beat) is Move.RELAUNCH


@pytest.mark.parametrize(
    ("interval_s", "patience_s"),
    [(300.0, 600.0), (1.0, LEAST_QUIET_S), (1e9, MOST_QUIET_S)],
)
def test_a_trainer_is_hung_after_twice_its_own_interval(
    interval_s: float, patience_s: float
) -> None:
    beat = replace(BEAT, interval_s=interval_s)
    assert move(replace(LIVE, quiet_s=patience_s - 1), RUNNING, beat) is Move.WAIT
    assert move(replace(LIVE, quiet_s=patience_s), RUNNING, beat) is Move.RELAUNCH


def test_a_phase_of_a_newer_trainer_gets_the_longest_patience() -> None:
    beat = replace(BEAT, phase="quantize")
    assert move(replace(LIVE, quiet_s=1799), RUNNING, beat) is Move.WAIT
    assert move(replace(LIVE, quiet_s=1800), RUNNING, beat) is Move.RELAUNCH


def test_a_store_that_cannot_be_read_is_not_the_silence_of_a_trainer() -> None:
    unread = replace(LIVE, age_s=5000, quiet_s=5000, store_read=False)
    assert move(unread, None, None) is Move.WAIT


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.PREEMPTED, Phase.GONE])
def test_an_end_cannot_be_told_from_a_success_without_the_store(phase: Phase) -> None:
    unread = replace(LIVE, absent_s=1e6, store_read=False)
    assert move(unread, Sighting("m-1", phase), None) is Move.WAIT


# -- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("absent_s", [None, 0.0, 59.9])
def test_an_end_is_pursued_until_it_is_proven(absent_s: float | None) -> None:
    assert move(replace(ENDING, absent_s=absent_s), GONE) is Move.CONFIRM


def test_an_end_is_proven_by_a_whole_settle_window_of_absence() -> None:
    assert move(replace(ENDING, absent_s=60), GONE) is Move.CLOSE


def test_a_closed_attempt_is_left_alone() -> None:
    assert move(Attempt(AttemptState.CLOSED, wish=Wish.TERMINATE), None) is Move.WAIT


# -- what holds for every input ---------------------------------------------------------------

seconds = st.floats(0, 1e7, allow_nan=False)
maybe_seconds = st.none() | seconds
sightings = st.none() | st.builds(
    Sighting, st.just("m-1"), st.sampled_from(Phase), exit_code=st.none() | st.integers(-64, 255)
)
beats = st.none() | st.builds(
    Heartbeat, st.integers(0, 99), st.sampled_from([*QUIET_S, "other"]), st.just(1)
)
failures = st.none() | st.builds(
    Failure, st.just(1), st.text(), st.booleans(), st.just(""), st.booleans()
)
attempts = st.builds(
    Attempt,
    state=st.sampled_from(AttemptState),
    wish=st.sampled_from(Wish),
    age_s=seconds,
    quiet_s=seconds,
    absent_s=maybe_seconds,
    asked_to_stop_s=maybe_seconds,
    done=st.booleans(),
    failure=failures,
    store_read=st.booleans(),
)
limits = st.builds(
    Limits,
    settle_s=seconds,
    boot_s=seconds,
    max_age_s=seconds,
    stop_reserve_s=seconds,
    stop_grace_s=seconds,
)
any_input = given(sightings, beats, attempts, limits)
thorough = settings(max_examples=300, deadline=None)

ALLOWED = {
    AttemptState.INTENDED: {Move.WAIT, Move.ADOPT, Move.CLOSE},
    AttemptState.LIVE: {Move.WAIT, Move.ASK_TO_STOP, *ENDINGS},
    AttemptState.ENDING: {Move.CONFIRM, Move.CLOSE},
    AttemptState.CLOSED: {Move.WAIT},
}


@thorough
@any_input
def test_every_input_has_a_move_that_its_state_allows_and_a_reason(
    sighting: Sighting | None, beat: Heartbeat | None, attempt: Attempt, bounds: Limits
) -> None:
    chosen, reason = decide(sighting, beat, attempt, bounds)
    assert chosen in ALLOWED[attempt.state]
    assert reason or (attempt.failure is not None and not attempt.failure.message)


@thorough
@any_input
def test_the_same_input_has_the_same_move(
    sighting: Sighting | None, beat: Heartbeat | None, attempt: Attempt, bounds: Limits
) -> None:
    first = decide(sighting, beat, attempt, bounds)
    assert decide(sighting, beat, attempt, bounds) == first


@thorough
@any_input
def test_no_live_attempt_outlives_its_time(
    sighting: Sighting | None, beat: Heartbeat | None, attempt: Attempt, bounds: Limits
) -> None:
    old = replace(attempt, state=AttemptState.LIVE, age_s=bounds.max_age_s + attempt.age_s)
    assert decide(sighting, beat, old, bounds)[0] in ENDINGS


@thorough
@any_input
def test_nothing_is_closed_without_a_settle_window_of_absence(
    sighting: Sighting | None, beat: Heartbeat | None, attempt: Attempt, bounds: Limits
) -> None:
    if decide(sighting, beat, attempt, bounds)[0] is Move.CLOSE:
        assert attempt.absent_s is not None
        assert attempt.absent_s >= bounds.settle_s


@thorough
@any_input
def test_ignorance_ends_no_machine(
    sighting: Sighting | None, beat: Heartbeat | None, attempt: Attempt, bounds: Limits
) -> None:
    del sighting, beat
    young = replace(
        attempt,
        state=AttemptState.LIVE,
        wish=Wish.RUN,
        age_s=0.0,
        asked_to_stop_s=None,
        done=False,
        failure=None,
        store_read=False,
    )
    roomy = replace(bounds, max_age_s=bounds.stop_reserve_s + 1)
    assert decide(None, None, young, roomy)[0] is Move.WAIT
