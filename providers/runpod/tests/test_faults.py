"""What may go wrong between us and RunPod, over real HTTP, with a real watcher and real processes.

What the faults are called is the numbering of the list that every driver faces. F19 needs the
trainer, and is in tests/loopback.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.runs.records import Fault, RunState
from kwanzaa_compute.testing.loopback import Command
from kwanzaa_compute.testing.loopback.cloud import QUICK
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute.testing.watched import WatchedRun, watched_run
from kwanzaa_compute.testing.weather import Weather
from kwanzaa_compute_runpod import kwanzaa_providers
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.simulated.pods import IDLE
from kwanzaa_compute_runpod.simulated.rest import SOLD_OUT, problem
from kwanzaa_compute_runpod.simulator import RunPodSimulator

CREATE = ("POST", "/v2/pods")
LIST = ("GET", "/v2/pods")
DELETE = ("DELETE", r"/v2/pods/[^/]+")
HTML = Reply(502, b"<html><title>502 Bad Gateway</title></html>")


class World:
    """A simulated RunPod, and one run on it that is watched."""

    def __init__(self, simulator: RunPodSimulator, watched: WatchedRun, provider: Provider) -> None:
        self.simulator, self.watched, self.provider = simulator, watched, provider
        self.server, self.cloud = simulator.server, simulator.cloud

    def asked(self, method: str, path: str) -> int:
        """How often something was asked, by anybody."""
        return sum(r.method == method and r.path == path for r, _ in self.server.exchanges)

    def after(self, answer: Reply) -> Callable[[Request], Reply]:
        """This answer, after the deed was done."""

        def handler(request: Request) -> Reply:
            self.server.answer(request)
            return answer

        return handler

    @property
    def ever(self) -> int:
        """How many machines there ever were."""
        return len(self.cloud.sim.machines)


Make = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path, driver_of: Callable[..., RunPodDriver]) -> Iterator[Make]:
    with ExitStack() as stack:
        worlds: list[World] = []

        def make(
            weather: Weather = QUICK, run: dict[str, Any] | None = None, **promises: Any
        ) -> World:
            simulator = stack.enter_context(RunPodSimulator(tmp_path / "c", weather=weather))
            (info,) = kwanzaa_providers()
            info = replace(simulator.adapt(info), settle_s=0.5)
            provider = provider_of(driver_of(simulator), replace(info, **promises))
            offers = [o for o in provider.offers() if o.id == "NVIDIA RTX A5000"]
            watched = watched_run(provider, tmp_path, offers, **(run or {}))
            worlds.append(World(simulator, stack.enter_context(watched), provider))
            return worlds[-1]

        yield make
        for one in worlds:
            assert one.cloud.billing == [], one.watched.history


def provider_of(driver: RunPodDriver, info: ProviderInfo) -> Provider:
    policy = RetryPolicy(attempts=2, first_pause_s=0.01, longest_pause_s=0.02, deadline_s=20.0)
    return Provider(info, driver, Clock(), policy)


@pytest.mark.parametrize(
    "answer",
    [DROPPED, Reply(500, {"title": "x", "status": 500, "detail": "y"}), HTML, Reply(201, b"{")],
    ids=["F1 no answer", "F2 500", "F2 a gateway's page", "F1 half an answer"],
)
def test_a_create_whose_answer_is_lost_is_found_by_its_name(world: Make, answer: Reply) -> None:
    here = world()
    here.server.interrupt(*CREATE, here.after(answer))
    assert here.watched.finish().state is RunState.DONE
    assert here.asked(*CREATE) == here.ever == 1
    assert "adopt" in here.watched.history


@pytest.mark.parametrize(
    "answer",
    [
        Reply(429, problem(429, "rate limit exceeded").body, {"Retry-After": "1"}),
        problem(500, "Something went wrong."),
    ],
    ids=["429", "500"],
)
def test_f3_a_create_in_vain_is_repeated_later(world: Make, answer: Reply) -> None:
    here = world()
    here.server.interrupt(*CREATE, answer)
    assert here.watched.finish().state is RunState.DONE
    assert (here.asked(*CREATE), here.ever) == (2, 1)
    assert [a.fault for a in here.watched.attempts] == [Fault.TRANSIENT, Fault.NONE]


def test_f4_where_one_cloud_is_sold_out_the_other_is_tried_at_once(world: Make) -> None:
    here = world()
    here.server.interrupt(*CREATE, problem(400, SOLD_OUT))
    assert here.watched.finish().state is RunState.DONE
    regions = [attempt.region for attempt in here.watched.attempts]
    assert regions == ["secure", "community"]
    assert here.ever == 1


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (problem(402, "Your balance is too low."), Fault.QUOTA),
        (problem(403, "access denied"), Fault.CREDENTIALS),
        (problem(401, "Unauthorized"), Fault.CREDENTIALS),
        (problem(422, "Request validation failed.", ["x"]), Fault.INVALID),
    ],
    ids=["402", "403", "401", "422"],
)
def test_f5_what_no_repetition_mends_is_not_repeated(
    world: Make, answer: Reply, fault: Fault
) -> None:
    here = world()
    here.server.interrupt(*CREATE, answer)
    ends = {Fault.QUOTA: RunState.NO_QUOTA, Fault.CREDENTIALS: RunState.NO_ACCESS}
    assert here.watched.finish().state is ends.get(fault, RunState.FAILED)
    assert [attempt.fault for attempt in here.watched.attempts] == [fault]
    assert (here.asked(*CREATE), here.ever) == (1, 0)


def test_f5_a_pool_that_is_denied_is_passed_over(world: Make) -> None:
    here = world()
    here.server.interrupt(*CREATE, problem(403, "your account cannot access the requested pool"))
    assert here.watched.finish().state is RunState.DONE
    assert [attempt.fault for attempt in here.watched.attempts] == [Fault.CAPACITY, Fault.NONE]


def test_f6_of_two_machines_of_one_name_one_is_kept(world: Make) -> None:
    here = world(run={"beats": 10})
    here.server.interrupt(*CREATE, lambda r: (here.server.answer(r), here.server.answer(r))[0])
    attempt = here.watched.until("live")
    assert here.watched.finish().state is RunState.DONE
    machines = here.cloud.sim.machines.values()
    assert len({m.name for m in machines}) == 1
    kept = here.cloud.sim.machines[attempt.machine_id]
    assert all((m.ended_at or 0) <= (kept.ended_at or 0) for m in machines)
    assert here.watched.attempts[-1].machine_id == kept.id


def test_f7_a_machine_that_is_listed_late_is_waited_for(world: Make) -> None:
    here = world(Weather(boot_s=(0.2, 0.2), list_lag_s=0.8), settle_s=1.2)
    here.server.interrupt(*CREATE, here.after(DROPPED))
    assert here.watched.finish().state is RunState.DONE
    assert here.ever == 1


def test_f7_every_page_of_the_list_is_read(world: Make) -> None:
    here = world()
    here.simulator.account.page_size = 1
    for name in ("somebody-elses", "kwz-other-r9-1", "another"):
        body = {"name": name, "image": "i", "gpu": {"id": "NVIDIA L4"}, "disk": 1}
        here.cloud.create(name, ("NVIDIA L4", "secure"), Command(IDLE, extra=body))
    here.server.interrupt(*CREATE, here.after(HTML))
    assert here.watched.finish().state is RunState.DONE
    left = {machine.name for machine in here.cloud.billing}
    assert left == {"somebody-elses", "kwz-other-r9-1", "another"}
    for machine in here.cloud.billing:
        here.cloud.terminate(machine.id)


@pytest.mark.parametrize(
    "answer",
    [problem(500, "x"), Reply(200, b"<html>"), Reply(200, {"pods": [{"id": "?"}]})],
    ids=["500", "200 page", "a pod without a name"],
)
def test_f8_a_list_that_cannot_be_read_is_no_absence(world: Make, answer: Reply) -> None:
    here = world(run={"beats": 12})
    here.watched.until("live")
    for _ in range(6):
        here.server.interrupt(*LIST, answer)
    assert here.watched.finish().state is RunState.DONE
    assert here.ever == len(here.watched.attempts) == 1


@pytest.mark.parametrize(
    "answer",
    [problem(409, "locked"), DROPPED, Reply(204), problem(404, "pod not found")],
    ids=["F9 locked", "F9 no answer", "F10 a lie", "F11 unknown"],
)
def test_a_machine_is_ended_until_it_is_absent(world: Make, answer: Reply) -> None:
    here = world()
    here.watched.until("live")
    for _ in range(3):
        here.server.interrupt(*DELETE, answer)
    assert here.watched.finish().state is RunState.DONE
    assert here.cloud.billing == []


@pytest.mark.parametrize("when", ["starting", "working"])
def test_f12_a_machine_that_vanishes_is_replaced(world: Make, when: str) -> None:
    here = world(run={"beats": 8})
    machine = here.watched.until("live").machine_id
    if when == "working":
        while here.watched.folder.heartbeat(1) is None:
            here.watched.step()
    here.cloud.preempt(machine)
    assert here.watched.finish().state is RunState.DONE
    assert [attempt.fault for attempt in here.watched.attempts] == [Fault.PREEMPTED, Fault.NONE]


def test_f13_a_machine_that_was_stopped_is_ended_too(world: Make) -> None:
    here = world(replace(QUICK, preempted_stays=1.0), run={"beats": 8})
    machine = here.watched.until("live").machine_id
    here.cloud.preempt(machine)
    assert here.watched.finish().state is RunState.DONE
    assert len(here.watched.attempts) == 2
    assert here.cloud.sim.machines[machine].ended_at is not None


def test_f18_a_machine_that_never_starts_is_replaced(world: Make) -> None:
    here = world(Weather(boot_s=(900.0, 900.0)), boot_s=1.0)
    stuck = here.watched.until("live").machine_id
    here.cloud.sim.weather = QUICK
    here.provider.info = replace(here.provider.info, boot_s=1.0)
    here.watched.until("ending")
    here.provider.info = replace(here.provider.info, boot_s=60.0)
    assert here.watched.finish().state is RunState.DONE
    assert here.watched.attempts[0].fault is Fault.MACHINE
    assert here.cloud.sim.machines[stuck].ended_at is not None
    assert [a.region for a in here.watched.attempts] == ["secure", "community"]


def test_f28_a_create_that_drips_is_cut_off_and_found(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute_runpod.client.CREATE_S", 0.5)
    here = world()

    def drip(request: Request) -> Reply:
        here.server.answer(request)
        return Reply(201, spaces())

    here.server.interrupt(*CREATE, drip)
    assert here.watched.finish().state is RunState.DONE
    assert here.asked(*CREATE) == here.ever == 1


def spaces() -> Iterator[bytes]:
    for _ in range(200):
        yield b" "
        Clock().sleep(0.02)


def test_f28_a_redirect_takes_the_key_nowhere(world: Make) -> None:
    here = world()
    other = here.simulator.registry.server
    before = len(other.exchanges)
    here.server.interrupt(*LIST, Reply(307, b"", {"Location": f"{other.url}/v2/pods"}))
    assert here.watched.finish().state is RunState.DONE
    asked = [request for request, _ in other.exchanges[before:]]
    assert not [r for r in asked if r.path == "/v2/pods"]
    assert here.simulator.account.key not in json.dumps([dict(r.headers) for r in asked])
