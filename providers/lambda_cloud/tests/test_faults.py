"""The fault matrix over real HTTP: supervisor, ledger and driver against a Lambda that misbehaves.

A machine to look around on is the run here: nothing is trained, so seconds do. What the faults
are called (F1 to F18) is the matrix's numbering; F19 needs the trainer, and is in tests/loopback.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kwanzaa_compute.compute import Compute, Run
from kwanzaa_compute.compute.machines import MachineWish
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.runs.records import AttemptState, Fault, RunState
from kwanzaa_compute.testing.loopback import Reply, Request
from kwanzaa_compute.testing.loopback.wire import DROPPED
from kwanzaa_compute.testing.weather import Faults, Weather
from kwanzaa_compute_lambda_cloud.simulator import SIMULATED, LambdaSimulator

LAUNCH, TERMINATE = "/api/v1/instance-operations/launch", "/api/v1/instance-operations/terminate"
INSTANCES, ONE = "/api/v1/instances", "/api/v1/instances/.*"
HTML = Reply(502, b"<html><title>502 Bad Gateway</title></html>")
PATIENCE_S = 40.0


class Hasty(LambdaSimulator):
    """Shows a machine within a second, and boots it in two or not at all."""

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        return replace(super().adapt(info), settle_s=0.4, boot_s=1.2)


class Account:
    """A user of the simulated Lambda with one run, and what the tests ask about it."""

    def __init__(self, simulator: LambdaSimulator, compute: Compute) -> None:
        self.simulator, self.compute = simulator, compute
        self.cloud, self.server = simulator.cloud, simulator.server

    def rent(self) -> Run:
        wish = MachineWish(1.0, gpu="A10", providers=("lambda",))
        return self.compute.provision(self.compute.choose_machine(wish))

    def until(self, run: Run, holds: Callable[[], bool]) -> None:
        """Steps the run until something holds."""
        clock = self.compute.clock
        last = clock.monotonic() + PATIENCE_S
        while not holds():
            assert clock.monotonic() < last, [f"{e.kind}: {e.message}" for e in run.events]
            run.launch()
            clock.sleep(0.05)

    def until_live(self, run: Run) -> None:
        self.until(run, lambda: bool(run.attempts) and run.attempts[-1].state is AttemptState.LIVE)

    def until_ended(self, run: Run) -> None:
        self.until(run, lambda: run.state is not RunState.RUNNING)
        assert all(attempt.state is AttemptState.CLOSED for attempt in run.attempts)
        assert self.cloud.billing == []

    def end(self, run: Run) -> None:
        run.terminate()
        self.until_ended(run)

    def asked(self, path: str) -> int:
        return sum(request.path == path for request, _ in self.server.exchanges)

    @property
    def made(self) -> int:
        return len(self.cloud.sim.machines)


@pytest.fixture
def account_of(tmp_path: Path) -> Iterator[Callable[..., Account]]:
    opened: list[tuple[Hasty, Compute]] = []

    def open_account(weather: Weather = SIMULATED, faults: Faults | None = None) -> Account:
        simulator = Hasty(tmp_path / "cloud", weather=weather, faults=faults).__enter__()
        compute = compute_over({"lambda": simulator}, discover(), tmp_path / "home")
        opened.append((simulator, compute))
        slow = compute.provider("lambda")
        quick = Provider(slow.info, slow.driver, compute.clock, RetryPolicy(first_pause_s=0.02))
        compute._providers["lambda"] = quick
        return Account(simulator, compute)

    yield open_account
    for simulator, compute in opened:
        compute.ledger.close()
        simulator.__exit__()


@pytest.fixture
def account(account_of: Callable[..., Account]) -> Account:
    return account_of()


# -- create -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [DROPPED, HTML, Reply(500, {"error": {"code": "provider/x"}})])
def test_f1_f2_a_machine_whose_answer_was_lost_is_found_by_name(
    account: Account, answer: Reply
) -> None:
    def created_then_lost(request: Request) -> Reply:
        assert account.server.answer(request).status == 200
        return answer

    account.server.interrupt("POST", LAUNCH, created_then_lost)
    run = account.rent()
    account.until_live(run)
    assert (account.made, account.asked(LAUNCH), len(run.attempts)) == (1, 1, 1)
    assert [machine.id for machine in account.cloud.billing] == [run.attempts[0].machine_id]
    account.end(run)


def test_f3_a_launch_that_never_was_is_tried_again_after_the_settle_window(
    account: Account,
) -> None:
    account.server.interrupt("POST", LAUNCH, Reply(429, b"slow down", {"Retry-After": "1"}))
    run = account.rent()
    account.until_live(run)
    first, second = run.attempts
    assert first.fault is Fault.TRANSIENT
    assert second.intended_at - first.intended_at >= 0.4
    assert account.made == 1
    account.end(run)


def test_f4_what_is_sold_out_is_looked_for_elsewhere_at_once(account: Account) -> None:
    code = "instance-operations/launch/insufficient-capacity"
    sold_out = Reply(400, {"error": {"code": code, "message": "Not enough capacity"}})
    account.server.interrupt("POST", LAUNCH, sold_out)
    run = account.rent()
    account.until_live(run)
    first, second = run.attempts
    assert first.fault is Fault.CAPACITY
    assert first.closed_at == first.intended_at  # proven to have cost nothing
    assert first.region != second.region
    account.end(run)


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (400, "global/quota-exceeded", Fault.QUOTA),
        (403, "global/account-inactive", Fault.QUOTA),
        (401, "global/invalid-api-key", Fault.CREDENTIALS),
    ],
)
def test_f5_what_no_repetition_mends_is_not_repeated(
    account: Account, status: int, code: str, fault: Fault
) -> None:
    account.server.interrupt(
        "POST", LAUNCH, Reply(status, {"error": {"code": code, "message": "no"}})
    )
    run = account.rent()
    account.until_ended(run)
    ends = {Fault.QUOTA: RunState.NO_QUOTA, Fault.CREDENTIALS: RunState.NO_ACCESS}
    assert run.state is ends[fault]
    assert run.attempts[0].fault is fault
    assert (account.made, account.asked(LAUNCH)) == (0, 1)


def test_f6_of_a_launch_that_was_delivered_twice_one_machine_stays(account: Account) -> None:
    def twice(request: Request) -> Reply:
        account.server.answer(request)
        account.cloud.clock.sleep(0.2)
        return account.server.answer(request)

    account.server.interrupt("POST", LAUNCH, twice)
    run = account.rent()
    account.until_live(run)
    assert account.made == 2
    account.until(run, lambda: len(account.cloud.billing) == 1)
    assert account.cloud.billing[0].id == run.attempts[0].machine_id
    account.end(run)


# -- list -------------------------------------------------------------------------------------


def test_f7_a_machine_that_is_not_listed_yet_is_not_launched_again(
    account_of: Callable[..., Account],
) -> None:
    account = account_of(replace(SIMULATED, list_lag_s=0.3))

    def created_then_lost(request: Request) -> Reply:
        account.server.answer(request)
        return DROPPED

    account.server.interrupt("POST", LAUNCH, created_then_lost)
    run = account.rent()
    account.until_live(run)
    assert (account.made, len(run.attempts)) == (1, 1)
    account.end(run)


@pytest.mark.parametrize("answer", [HTML, DROPPED, Reply(200, b"{"), Reply(200, {"data": None})])
def test_f8_a_list_that_cannot_be_read_decides_nothing(account: Account, answer: Reply) -> None:
    run = account.rent()
    account.until_live(run)
    before = run.attempts
    for _ in range(4):  # as often as a read is tried
        account.server.interrupt("GET", INSTANCES, answer)
    step = run.launch()
    assert str(step.move) == "wait"
    assert run.attempts == before
    assert len(account.cloud.billing) == 1
    account.end(run)


# -- terminate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        HTML,
        DROPPED,
        Reply(409, {"error": {"code": "global/conflict", "message": "locked"}}),
        Reply(200, {"data": {"terminated_instances": []}}),
        Reply(404, {"error": {"code": "global/object-does-not-exist", "message": "?"}}),
    ],
    ids=["f9 a proxy", "f9 no answer", "f9 locked", "f10 a lie", "f11 unknown to it"],
)
def test_f9_f10_f11_a_machine_is_ended_until_it_is_absent(account: Account, answer: Reply) -> None:
    run = account.rent()
    account.until_live(run)
    for _ in range(4):
        account.server.interrupt("POST", TERMINATE, answer)
    account.end(run)
    assert account.asked(TERMINATE) >= 2
    assert run.state is RunState.STOPPED


# -- machines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("boot_s", [0.1, 1.1], ids=["while it works", "while it boots"])
def test_f12_f13_what_was_taken_back_and_still_stands_there_is_ended(
    account_of: Callable[..., Account], boot_s: float
) -> None:
    account = account_of(replace(SIMULATED, boot_s=(boot_s, boot_s)))
    run = account.rent()
    account.until_live(run)
    machine_id = run.attempts[0].machine_id
    account.until(run, lambda: boot_s > 1.0 or bool(account.cloud.room.commands(machine_id)))
    account.cloud.preempt(machine_id)
    if boot_s > 1:  # the model keeps what is taken back before it boots, as it does all others
        assert account.cloud.billing
    account.until_ended(run)
    assert "took the machine back" in run.record.reason
    assert account.cloud.room.commands(machine_id) == []


def test_f18_a_machine_that_never_boots_is_ended_and_replaced(
    account_of: Callable[..., Account],
) -> None:
    account = account_of(replace(SIMULATED, boot_s=(3600.0, 3600.0)))
    run = account.rent()
    account.until(run, lambda: len(run.attempts) == 2)
    first = run.attempts[0]
    assert first.state is AttemptState.CLOSED
    assert first.fault is Fault.MACHINE
    assert run.receipt.lines[0].usd > 0  # what it cost is booked
    assert account.cloud.sim.machines[first.machine_id].bills is False
    account.end(run)
