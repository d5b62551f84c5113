"""A trainer that only pretends to compute, and does everything else for real, in a real store.

It resumes from the newest sound checkpoint, beats its heart, checkpoints, honours a stop request
and the time limit of its job, and writes the done marker last.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from kwanzaa_compute.drivers.contract import Job
from kwanzaa_compute.errors import StoreError, StoreExistsError, StoreMissingError
from kwanzaa_compute.store import Done, Failure, Heartbeat, RunFolder, Store, TrainingPhase
from kwanzaa_compute.store.checkpoints import (
    MANIFEST,
    STATE,
    TENSORS,
    CheckpointName,
    list_checkpoints,
    that_count,
)
from kwanzaa_compute.store.folder import ADAPTER, CHECKPOINTS, DONE
from kwanzaa_compute.testing.chance import Chance
from kwanzaa_compute.testing.simcloud import SimCloud, SimMachine

DEADLINE_EXIT_CODE = 124


@dataclass(frozen=True, slots=True)
class Training:
    """What there is to train. Times in virtual seconds; faults as probabilities for each beat."""

    steps: int = 100
    step_s: float = 6.0
    load_s: float = 30.0
    """From the first instruction to the first step."""
    steps_a_beat: int = 10
    beats_a_checkpoint: int = 2
    crashes: float = 0.0
    """The process ends without a word."""
    fails: float = 0.0
    """It says that another machine may do better."""
    hangs: float = 0.0
    deaf: float = 0.0
    """Probability, for each attempt, that it never looks for a stop request."""
    torn_checkpoints: float = 0.0
    """Probability, for each checkpoint, that it is found damaged later."""
    fails_for_good_at: int | None = None
    """The step at which no machine can go on; None: never."""
    stops_by_itself: bool = True
    """Whether the machine's billing ends with the job's time limit, or only the command."""


class SimTrainer:
    """One attempt's trainer on one machine."""

    def __init__(
        self, cloud: SimCloud, machine: SimMachine, job: Job, store: Store, training: Training
    ) -> None:
        """Begins at once; `cloud.clock` carries it on."""
        self._cloud = cloud
        self._machine = machine
        self._training = training
        self._folder = RunFolder(store)
        self._attempt = int(job.env.get("KWANZAA_ATTEMPT", "1"))
        self._sequence = 0
        self._beats = 0
        self._checkpoint: str | None = None
        self._step = 0
        self.lines: list[str] = []
        """What it printed."""
        self.hung = False
        self.began: tuple[float, int] | None = None
        """When it began to train, and at which step."""
        self.saved: list[tuple[float, int]] = []
        """When it wrote a sound checkpoint, and of which step."""
        clock = cloud.clock
        clock.call_at(clock.at + job.max_hours * 3600, self._out_of_time)
        self._do(self._begin)

    @property
    def _chance(self) -> Chance:
        return self._cloud.chance

    def _do(self, what: Callable[[], None]) -> None:
        """One thing, if the machine still works; storage that fails is a failure of the trainer."""
        if not self._machine.works:
            return
        try:
            what()
        except StoreError as error:
            self.lines.append(error.message)
            self._cloud.exit(self._machine, 1)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        clock = self._cloud.clock
        clock.call_at(clock.at + seconds, lambda: self._do(what))

    def _begin(self) -> None:
        if self._folder.done() is not None:
            self._cloud.exit(self._machine, 0)
            return
        self._deaf = self._chance.strikes("deaf", self._training.deaf)
        self._step, self._checkpoint = newest_checkpoint(self._folder.store)
        self.began = self._cloud.clock.at, self._step
        self._cloud.note("trainer begins", self._machine.name, self._step, self._checkpoint)
        self.lines.append(f"resuming at step {self._step}" if self._step else "starting")
        self._beat(TrainingPhase.LOAD)
        self._later(self._training.load_s, self._train)

    def _train(self) -> None:
        """One beat's worth of steps lies behind, except the first time."""
        training, strikes = self._training, self._chance.strikes
        if self._stop_asked():
            return
        if strikes("trainer crash", training.crashes):
            self._cloud.exit(self._machine, -11)
            return
        if strikes("trainer hang", training.hangs):
            self.hung = True
            self._cloud.note("trainer hangs", self._machine.name)
            return
        if strikes("trainer failure", training.fails):
            self._fail(Failure(self._attempt, "the GPU fell off the bus", retryable=True))
            return
        bad = training.fails_for_good_at
        if bad is not None and self._step >= bad:
            self._fail(Failure(self._attempt, "the loss is not a number", retryable=False))
            return
        if self._step >= training.steps:
            self._finish()
            return
        if self._beats and self._beats % training.beats_a_checkpoint == 0:
            self._save()
        self._beats += 1
        self._beat(TrainingPhase.TRAIN)
        steps = min(training.steps_a_beat, training.steps - self._step)
        self._later(steps * training.step_s, lambda: self._advance(steps))

    def _advance(self, steps: int) -> None:
        self._step += steps
        self._train()

    def _stop_asked(self) -> bool:
        if self._deaf:
            return False
        request = self._folder.stop_request()
        if request is None or request.attempt != self._attempt:
            return False
        self._save()
        self._beat(TrainingPhase.SAVE)
        self._fail(Failure(self._attempt, request.reason, retryable=True, stopped=True))
        return True

    def _save(self) -> None:
        name = f"ckpt-{self._step}-{self._attempt}"
        torn = self._chance.strikes("torn checkpoint", self._training.torn_checkpoints)
        write_checkpoint(self._folder.store, name, self._step, torn=torn)
        self._checkpoint = name
        if not torn:
            self.saved.append((self._cloud.clock.at, self._step))
        self._cloud.note("checkpoint", self._machine.name, name, "torn" if torn else "sound")

    def _fail(self, failure: Failure) -> None:
        self.lines.append(failure.message)
        self._folder.put_failure(failure)
        self._cloud.exit(self._machine, 1)

    def _finish(self) -> None:
        adapter = f"adapter of {self._step} steps".encode()
        files = {"adapter_model.safetensors": hashlib.sha256(adapter).hexdigest()}
        done = Done(self._attempt, self._step, files, {"simulated": True})
        for name in self._folder.member_names():
            self._folder.store.put(f"members/{name}/{ADAPTER}/adapter_model.safetensors", adapter)
            self._folder.store.put(f"members/{name}/{DONE}", done.to_json())
        self._folder.store.put(f"{ADAPTER}/adapter_model.safetensors", adapter)
        try:
            self._folder.put_done(done)
        except StoreExistsError:
            self.lines.append("another attempt was faster")
        self._cloud.note("done", self._machine.name)
        self._cloud.exit(self._machine, 0)

    def _beat(self, phase: TrainingPhase) -> None:
        self._sequence += 1
        self._folder.put_heartbeat(
            Heartbeat(
                sequence=self._sequence,
                phase=phase,
                attempt=self._attempt,
                step=self._step,
                total_steps=self._training.steps,
                loss=4.0 / (1 + self._step),
                checkpoint=self._checkpoint,
            )
        )

    def _out_of_time(self) -> None:
        if not self._machine.bills:
            return
        self._cloud.exit(self._machine, DEADLINE_EXIT_CODE)
        if self._training.stops_by_itself:
            self._cloud.expire(self._machine)


def write_checkpoint(store: Store, name: str, step: int, *, torn: bool = False) -> None:
    """A checkpoint of a step: its files, then its manifest; a torn one has lost bytes since.

    A sound one of that name stays as it is.
    """
    parsed = CheckpointName.parse(name)
    if parsed is not None and _is_sound(store, parsed):
        return  # another machine of the same attempt has written it, and it is sound
    files = {TENSORS: f"weights after step {step}".encode(), STATE: f'{{"step": {step}}}'.encode()}
    entries = {
        file: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for file, data in files.items()
    }
    manifest = {"step": step, "attempt": parsed.attempt if parsed else 0, "files": entries}
    store.put(f"{CHECKPOINTS}/{name}/{TENSORS}", files[TENSORS][: 5 if torn else None])
    store.put(f"{CHECKPOINTS}/{name}/{STATE}", files[STATE])
    store.put(f"{CHECKPOINTS}/{name}/{MANIFEST}", json.dumps(manifest).encode())


def newest_checkpoint(store: Store) -> tuple[int, str | None]:
    """The highest step of a sound checkpoint that counts, and its name; (0, None) without one."""
    names = that_count(list_checkpoints(store), RunFolder(store).resume_point())
    sound = (name for name in names if store.exists(f"{name.prefix}/{MANIFEST}"))
    found = next((name for name in sound if _is_sound(store, name)), None)
    return (found.step, str(found)) if found else (0, None)


def _is_sound(store: Store, name: CheckpointName) -> bool:
    try:
        files = json.loads(store.get(f"{name.prefix}/{MANIFEST}"))["files"]
        return all(
            hashlib.sha256(store.get(f"{name.prefix}/{file}")).hexdigest() == entry["sha256"]
            for file, entry in files.items()
        )
    except StoreMissingError:
        return False
