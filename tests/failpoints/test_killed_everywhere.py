"""A real process is killed with SIGKILL at every failpoint of the source, and started again.

The failpoints are read from the source, so a new one is killed here or fails this file.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Job, Sighting
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import AttemptState, RunState, Wish
from kwanzaa_compute.runs.schema import integrity
from kwanzaa_compute.store import RunFolder
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.samples import sample_offer, sample_run
from kwanzaa_compute.testing.weather import Faults, SimError, Weather

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = [ROOT / "src", ROOT / "trainer/src"]
POINTS = sorted(
    {
        name
        for folder in SOURCES
        for file in folder.rglob("*.py")
        for name in re.findall(r'\bfailpoint\(\s*"([^"]+)"', file.read_text())
    }
)
OF_A_TRAINER = tuple(p for p in POINTS if p.startswith(("checkpoint.", "store.")))
OF_A_WATCHER = tuple(p for p in POINTS if p not in OF_A_TRAINER)
OF_THE_LEDGER = tuple(p for p in POINTS if p.startswith("ledger."))


class Theatre:
    """A cloud and a clock that outlive the watchers, which are processes and get killed."""

    def __init__(self, folder: Path, *, wish: tuple[float, Wish] | None = None) -> None:
        offers = [sample_offer(id="spot", spot=True, region="south"), sample_offer()]
        self.cloud = FakeCloud(
            offers=offers, preempt_at=(300,), weather=Weather(latency_s=(0.1, 0.1))
        )
        self.clock = self.cloud.clock
        self.path = folder / "ledger.db"
        self.ledger = Ledger(self.path, self.clock.clock())
        self.most_at_once = 0
        self.cloud.sim.on_event = self._saw
        self.ledger.add_run(
            sample_run(*offers, store_url=(folder / "r1").as_uri(), created_at=self.clock.at)
        )
        self.cloud.sim.faults = Faults(rate_limited=1.0)  # the first launch is refused
        if wish:
            self.clock.call_at(self.clock.at + wish[0], lambda: self._wish(wish[1]))

    def _wish(self, wish: Wish) -> None:
        self.ledger.set_wish("r1", wish)

    def _saw(self, _kind: str, _machine: object) -> None:
        self.most_at_once = max(self.most_at_once, len(self.cloud.billing))

    def play(self, point: str) -> bool:
        """Plays the run to its end; whether a watcher was killed on the way."""
        killed = False
        for _life in range(3):
            code = self._watch("" if killed else point)
            if code == 0:
                return killed
            assert code == -signal.SIGKILL
            killed = True
        raise AssertionError("killed without being told to")

    def _watch(self, point: str) -> int:
        watcher = subprocess.Popen(
            [sys.executable, str(HERE / "watcher.py"), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KWANZAA_FAILPOINT": point},
        )
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        with watcher:
            for line in watcher.stdout:
                asked = json.loads(line)
                try:
                    answer = {"value": getattr(self, asked["call"])(**asked["args"])}
                except SimError as error:
                    answer = {"error": type(error).__name__, "message": str(error)}
                watcher.stdin.write(json.dumps(answer) + "\n")
                watcher.stdin.flush()
        return watcher.returncode

    # -- what watchers ask for ------------------------------------------------------------------

    def now(self) -> float:
        return self.clock.at

    def sleep(self, s: float) -> None:
        self.clock.sleep(s)

    def launch(self, name: str, offer: str, region: str, **job: Any) -> str:
        try:
            told = Job(name, ("python",), **job)
            return self.cloud.sim.create(name, (offer, region), told)
        finally:
            self.cloud.sim.faults = Faults()

    def inspect(self, machine_id: str) -> dict[str, Any]:
        return _plain(self.cloud.inspect(machine_id))

    def fleet(self) -> list[dict[str, Any]]:
        return [_plain(sighting) for sighting in self.cloud.fleet()]

    def terminate(self, machine_id: str) -> None:
        self.cloud.terminate(machine_id)


def _plain(sighting: Sighting) -> dict[str, Any]:
    return {
        "machine_id": sighting.machine_id,
        "phase": sighting.phase.value,
        "name": sighting.name,
    }


def _preempted(folder: Path) -> Theatre:
    return Theatre(folder)


def _stopped(folder: Path) -> Theatre:
    return Theatre(folder, wish=(200.0, Wish.STOP))


SCENES: dict[Callable[[Path], Theatre], RunState] = {
    _preempted: RunState.DONE,
    _stopped: RunState.STOPPED,
}


def all_is_well(theatre: Theatre, state: RunState) -> None:
    run, attempts = theatre.ledger.run("r1"), theatre.ledger.attempts("r1")
    theatre.ledger.close()
    assert run.state is state
    assert theatre.cloud.billing == []
    assert theatre.most_at_once == 1
    assert {attempt.state for attempt in attempts} == {AttemptState.CLOSED}
    machines = [machine.name for machine in theatre.cloud.sim.machines.values()]
    assert len(machines) == len(set(machines))
    assert set(machines) <= {attempt.name for attempt in attempts}
    assert integrity(theatre.path) == "ok"


def test_there_are_failpoints_of_every_part() -> None:
    parts = {point.partition(".")[0] for point in POINTS}
    assert parts >= {"checkpoint", "end", "launch", "ledger", "stop", "store", "terminate"}


@pytest.mark.slow
@pytest.mark.parametrize("point", OF_A_WATCHER)
def test_a_watcher_that_is_killed_there_loses_no_run_and_doubles_no_machine(
    point: str, tmp_path: Path
) -> None:
    for number, (scene, state) in enumerate(SCENES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        theatre = scene(folder)
        killed = theatre.play(point)
        all_is_well(theatre, state)
        if killed:
            return
    pytest.fail(f"no scene comes to {point}")


@pytest.mark.slow
@pytest.mark.parametrize("point", OF_THE_LEDGER)
@pytest.mark.parametrize("nth", [2, 5, 8, 13, 21])
def test_a_watcher_that_is_killed_in_any_transaction_loses_nothing(
    point: str, nth: int, tmp_path: Path
) -> None:
    theatre = _preempted(tmp_path)
    assert theatre.play(f"{point}:{nth}")
    all_is_well(theatre, RunState.DONE)


@pytest.mark.parametrize("point", OF_A_TRAINER)
def test_a_trainer_that_is_killed_there_goes_on_from_what_was_safe(
    point: str, tmp_path: Path
) -> None:
    url = (tmp_path / "run").as_uri()
    code, words = _save(url, point)
    assert code == -signal.SIGKILL, f"saving comes to no {point}"
    safe = max([int(step) for word, step in words if word == "safe"], default=0)
    code, words = _save(url, "")
    assert code == 0
    if words:  # else it was complete
        assert words[0][0] == "began"
        assert int(words[0][1]) in (safe, safe + 1)
    from kwanzaa_compute.store import open_store

    done = RunFolder(open_store(url)).done()
    assert done is not None
    assert done.step == 6


def _save(url: str, point: str) -> tuple[int, list[tuple[str, str]]]:
    saver = subprocess.run(
        [sys.executable, str(HERE / "saver.py"), url],
        env={**os.environ, "KWANZAA_FAILPOINT": point},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    words = [line.split() for line in saver.stdout.splitlines()]
    return saver.returncode, [(word, step) for word, step in words]
