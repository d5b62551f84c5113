"""A machine sees to its own end: with nobody watching, against an API that fails and lies."""

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Job, Phase
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_runpod import guard
from kwanzaa_compute_runpod.simulated.rest import problem
from kwanzaa_compute_runpod.simulator import RunPodSimulator

DELETE = ("DELETE", r"/v2/pods/[^/]+")
STOP = ("POST", r"/v2/pods/[^/]+/action")
SECOND = 1 / 3600


def job(code: str, *, hours: float = 1.0, **env: str) -> Job:
    argv = (sys.executable, "-c", code)
    return sample_job(name="kwz-me-g1-1", argv=argv, max_hours=hours, env=env)


def gone(harness: Harness, machine_id: str) -> bool:
    return harness.driver.inspect(machine_id).phase is Phase.GONE


def output(simulator: RunPodSimulator, machine_id: str) -> str:
    return "\n".join(simulator.cloud.room.output(machine_id))


@pytest.mark.parametrize(
    "answer",
    [DROPPED, Reply(204), Reply(302, b"", {"Location": "http://127.0.0.1:9/"})],
    ids=["no answer", "a lie", "a redirect"],
)
def test_the_timer_ends_the_machine_whatever_the_api_says_first(
    simulator: RunPodSimulator, harness: Harness, answer: Reply
) -> None:
    simulator.server.interrupt(*DELETE, answer)
    simulator.server.interrupt(*STOP, problem(500, "x"))
    machine_id = harness.launch(job("import time; time.sleep(600)", hours=2 * SECOND))
    harness.until(lambda: gone(harness, machine_id), "it has ended itself")
    assert simulator.cloud.billing == []


def test_where_termination_fails_the_machine_is_stopped(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    for _ in range(20):
        simulator.server.interrupt(*DELETE, problem(500, "x"))
    machine_id = harness.launch(job("import time; time.sleep(600)", hours=2 * SECOND))
    harness.until(
        lambda: harness.driver.inspect(machine_id).phase is Phase.EXITED, "it has stopped itself"
    )
    assert simulator.cloud.room.commands(machine_id) == []


def test_a_restarted_machine_has_no_more_time_than_the_first(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    for _ in range(40):  # it outlives its end, as long as the API fails
        simulator.server.interrupt(*DELETE, problem(500, "x"))
        simulator.server.interrupt(*STOP, problem(500, "x"))
    code = "print('worked', flush=True); import time; time.sleep(600)"
    machine_id = harness.launch(job(code, hours=3 * SECOND))
    harness.until(lambda: "time is up" in output(simulator, machine_id), "its time is up")
    room = simulator.cloud.room
    room.kill(machine_id)  # the command alone: the platform starts it again
    harness.until(lambda: "no time left" in output(simulator, machine_id), "it was restarted")
    harness.until(lambda: output(simulator, machine_id).count("time is up") == 2, "and ends")
    assert output(simulator, machine_id).count("worked") == 1


def test_a_command_that_has_ended_is_not_started_again_and_the_machine_ends_by_itself(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    code = "print('worked', flush=True); raise SystemExit(3)"
    machine_id = harness.launch(job(code, KWANZAA_LINGER_S="2"))
    harness.until(lambda: "exit code 3" in output(simulator, machine_id), "its command ended")
    harness.until(lambda: gone(harness, machine_id), "it has ended itself")
    assert output(simulator, machine_id).count("worked") == 1
    assert "starts again" not in "\n".join(simulator.cloud.sim.log)


def test_a_machine_that_could_not_end_itself_does_no_work(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    simulator.account.scoped_keys_work = False
    machine_id = harness.launch(job("print('worked')", KWANZAA_PROOF_S="0.5"))
    harness.until(lambda: "no work here" in output(simulator, machine_id), "it refuses")
    assert "worked" not in output(simulator, machine_id)
    simulator.account.scoped_keys_work = True
    ended = (Phase.GONE, Phase.EXITED)
    harness.until(
        lambda: harness.driver.inspect(machine_id).phase in ended, "it ends itself once it can"
    )


def test_a_key_that_works_a_moment_later_is_waited_for(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    simulator.server.interrupt("GET", r"/v2/pods/m-1", problem(403, "access denied"))
    machine_id = harness.launch(job("print('worked', flush=True); import time; time.sleep(60)"))
    harness.until(lambda: "worked" in output(simulator, machine_id), "it works")


def test_the_command_gets_its_words_and_not_the_machines_key(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    words = ("$(touch /tmp/no)", "a b", "'", '"', "ü\n", "--", "; rm -rf /", "%s", "\\")
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]), flush=True)"
    env = {f"V{number}": word for number, word in enumerate(words)}
    hostile = sample_job(name="kwz-me-g2-1", argv=(sys.executable, "-c", code, *words), env=env)
    machine_id = harness.launch(hostile)
    harness.until(lambda: "PATH" in output(simulator, machine_id), "it has printed")
    import json

    said = next(line for line in simulator.cloud.room.output(machine_id) if line.startswith("[["))
    argv, seen = json.loads(said)
    assert tuple(argv) == words
    assert {name: seen[name] for name in env} == env
    assert seen["RUNPOD_POD_ID"] == machine_id
    assert {"RUNPOD_API_KEY", "KWANZAA_GUARD", "KWANZAA_COMMAND"} & set(seen) == set()
    assert simulator.account.key_of(machine_id) not in said


def test_a_request_to_end_reaches_the_command(simulator: RunPodSimulator, harness: Harness) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_): print('told', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(600)"
    )
    machine_id = harness.launch(job(code))
    harness.until(lambda: "ready" in output(simulator, machine_id), "it runs")
    simulator.cloud.room.signal(machine_id, 15)
    harness.until(lambda: "told" in output(simulator, machine_id), "it was told")


def test_before_the_end_the_command_has_time_for_a_last_checkpoint(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_): print('saved', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end); time.sleep(600)"
    )
    machine_id = harness.launch(job(code, hours=5 * SECOND, KWANZAA_NOTICE_S="2"))
    harness.until(lambda: "exit code 75" in output(simulator, machine_id), "it was given notice")
    assert "saved" in output(simulator, machine_id)
    harness.until(lambda: gone(harness, machine_id), "it has ended itself")


def test_the_machines_key_reaches_this_machine_alone(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    one = harness.launch(job("import time; time.sleep(600)"))
    other = harness.launch(job("import time; time.sleep(600)"))
    mine = guard.Machine(simulator.endpoint, one, simulator.account.key_of(one))
    assert mine.read() == 200
    theirs = guard.Machine(simulator.endpoint, other, simulator.account.key_of(one))
    assert [theirs.read(), theirs.terminate(), theirs.stop()] == [403, 403, 403]
    assert guard.Machine(simulator.endpoint, "", simulator.account.key_of(one)).read() == 403


def test_the_guard_says_who_it_is(simulator: RunPodSimulator, harness: Harness) -> None:
    harness.launch(job("import time; time.sleep(600)"))
    agents = {request.headers.get("user-agent", "") for request in own_calls(harness, simulator)}
    assert agents == {guard.AGENT}


def own_calls(harness: Harness, simulator: RunPodSimulator) -> list[Request]:
    def calls() -> list[Request]:
        asked = [request for request, _ in simulator.server.exchanges]
        return [r for r in asked if r.bearer.startswith("simulated-pod-key")]

    harness.until(lambda: bool(calls()), "the machine has called")
    return calls()


# -- alone, without a machine -------------------------------------------------------------------


class Stub:
    """A machine that counts what is asked of it."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), threading.Event()

    def read(self) -> int:
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    def terminate(self) -> int:
        self.asked.set()
        threading.Event().wait()  # once is enough: the timer would try for ever
        return 204

    stop = terminate


def test_the_timer_goes_by_the_wall_clock_and_can_only_be_brought_forward() -> None:
    machine = Stub()
    timer = guard.Timer(machine, 1e12, now=lambda: 1e9)  # type: ignore[arg-type]
    timer.start()
    timer.bring_forward(2e12)
    assert not machine.asked.wait(0.2)
    timer.bring_forward(1e9 - 1)
    assert machine.asked.wait(10)


@pytest.mark.parametrize(
    ("answers", "proven"),
    [((), True), ((OSError("x"), 500), True), ((401,) * 99, False), ((404,) * 99, False)],
)
def test_only_a_pod_that_was_read_is_proof(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[Any, ...], proven: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(guard.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    assert guard.can_end_itself(Stub(*answers), 60.0) is proven  # type: ignore[arg-type]


def test_a_server_that_never_answers_does_not_hold_the_timer_up() -> None:
    def never() -> int:
        Clock().sleep(5)
        return 200

    with pytest.raises(TimeoutError):
        guard.within(0.1, never)


def test_the_guard_needs_nothing_of_ours(tmp_path: Path) -> None:
    source = Path(guard.__file__).read_text()
    imported = {
        line.split()[1].partition(".")[0]
        for line in source.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported <= sys.stdlib_module_names
