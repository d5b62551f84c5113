"""The pace that Lambda asks for, kept among processes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.errors import TransientError, UsageError
from kwanzaa_compute.testing.fakeclock import FakeClock
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute.testing.weather import RateLimitedError
from kwanzaa_compute_lambda_cloud.driver import LATEST_S, LambdaDriver
from kwanzaa_compute_lambda_cloud.limits import (
    LAUNCH,
    REQUEST,
    Limits,
    TooBusyError,
    Turns,
    turns_for,
)
from kwanzaa_compute_lambda_cloud.meaning import NotAskedError
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

TOO_MANY = RateLimitedError(retry_after_s=7)
ASKS = """
import sys
import httpx2  # before the first turn is taken: afterwards it would make that call late
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
endpoint, key, home, pace, count = sys.argv[1:]
environment = {"LAMBDA_API_KEY": key, "KWANZAA_HOME": home, "KWANZAA_LAMBDA_PACE": pace}
driver = LambdaDriver(DriverContext(environment, Clock(), endpoint))
for _ in range(int(count)):
    list(driver.fleet())
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def turns(tmp_path: Path, clock: FakeClock) -> Callable[[], Turns]:
    """Turns of one account, as one process after another would open them."""
    return lambda: turns_for("key", tmp_path, Limits(1.0, 12.0, 30.0), clock.clock())


def times(clock: FakeClock, turns: Callable[[], Turns], *calls: tuple[str, ...]) -> list[float]:
    """When each call is made, in seconds from the first."""
    found = []
    began = clock.clock().monotonic()
    for kinds in calls:
        turns().wait(*kinds)
        found.append(clock.clock().monotonic() - began)
    return found


def test_calls_are_a_second_apart_and_launches_twelve(
    clock: FakeClock, turns: Callable[[], Turns]
) -> None:
    call, launch = (REQUEST,), (REQUEST, LAUNCH)
    assert times(clock, turns, call, call, launch, call, launch, call) == [0, 1, 2, 3, 14, 15]


def test_who_has_waited_long_enough_needs_not_wait(
    clock: FakeClock, turns: Callable[[], Turns]
) -> None:
    turns().wait(REQUEST, LAUNCH)
    clock.sleep(12)
    assert times(clock, turns, (REQUEST, LAUNCH)) == [0]


def test_a_turn_too_far_away_is_refused_and_not_taken(
    clock: FakeClock, turns: Callable[[], Turns]
) -> None:
    for _ in range(3):
        turns().wait(REQUEST, LAUNCH)
    impatient = Turns(turns()._path, Limits(1.0, 12.0, 5.0), clock.clock())
    with pytest.raises(TooBusyError):
        impatient.wait(REQUEST, LAUNCH)
    impatient.wait(REQUEST)  # ... and a plain call is not held up by it
    clock.sleep(12)
    assert times(clock, turns, (REQUEST, LAUNCH)) == [0]


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '{"request": "soon"}', '{"request": 1e300, "launch": 1e300}']
)
def test_a_file_that_nobody_can_have_written_is_begun_anew(
    clock: FakeClock, turns: Callable[[], Turns], text: str
) -> None:
    """The last one is what monotonic time looks like after the computer has started anew."""
    turns().wait(REQUEST)
    turns()._path.write_text(text)
    assert times(clock, turns, (REQUEST,), (REQUEST,)) == [0, 1]


def test_two_accounts_do_not_wait_for_each_other(tmp_path: Path, clock: FakeClock) -> None:
    one, other = (turns_for(key, tmp_path, Limits(), clock.clock()) for key in ("a", "b"))
    one.wait(REQUEST)
    before = clock.clock().monotonic()
    other.wait(REQUEST)
    assert clock.clock().monotonic() == before
    names = [path.name for path in (tmp_path / "lambda").iterdir()]
    assert len(names) == 2


@pytest.mark.parametrize("pace", ["fast", "-1", "nan", "inf", ""])
def test_a_pace_that_is_none_is_refused(pace: str) -> None:
    with pytest.raises(UsageError, match="KWANZAA_LAMBDA_PACE"):
        Limits().scaled(pace)


@pytest.mark.parametrize("together", [True, False], ids=["one home", "homes of their own"])
def test_several_processes_together_keep_to_the_limit(tmp_path: Path, together: bool) -> None:
    """Lambda sees one user. With a home each they do not know of one another, and are refused."""
    pace, processes, calls = 0.05, 4, 8
    with LambdaSimulator(tmp_path / "machines", pace=pace) as simulator:
        key = simulator.environment["LAMBDA_API_KEY"]
        homes = [tmp_path / ("home" if together else f"home{n}") for n in range(processes)]
        children = [
            subprocess.Popen(
                [sys.executable, "-c", ASKS, simulator.endpoint, key, home, str(pace), str(calls)],
                stderr=subprocess.DEVNULL,
            )
            for home in homes
        ]
        codes = [child.wait(timeout=60) for child in children]
        refused = [reply.status for _, reply in simulator.server.exchanges].count(429)
    if together:
        assert codes == [0] * processes
        assert refused == 0
        assert len(simulator.server.exchanges) == processes * calls
    else:
        assert refused > 0


def test_nothing_is_launched_any_more_when_nobody_can_wait_for_the_answer(
    simulator: LambdaSimulator, tmp_path: Path
) -> None:
    """`Provider` gives a call up after a minute; a launch after that would be nobody's."""
    late = FakeClock()
    environment = {**simulator.environment, "KWANZAA_HOME": str(tmp_path / "home")}
    limits = Limits(request_s=LATEST_S / 2, launch_s=0.0, patience_s=LATEST_S)
    driver = LambdaDriver(
        DriverContext(environment, late.clock(), simulator.endpoint), limits=limits
    )
    offer = next(iter(driver.offers()))
    with pytest.raises(NotAskedError) as caught:
        driver.launch(sample_job(name="kwz-me-l1-1"), offer)
    meaning = driver.classify(caught.value)
    assert isinstance(meaning, TransientError)
    assert meaning.nothing_was_created
    assert simulator.cloud.sim.machines == {}


def test_a_429_says_when_to_come_back(simulator: LambdaSimulator, driver: LambdaDriver) -> None:
    simulator.server.interrupt("GET", "/api/v1/instances", simulator.server._on_error(TOO_MANY))
    with pytest.raises(Exception, match="429") as caught:
        list(driver.fleet())
    meaning = driver.classify(caught.value)
    assert isinstance(meaning, TransientError)
    assert meaning.retry_after_s == 7.0
