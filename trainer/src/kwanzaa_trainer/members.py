"""A run of several adapters: one trainer process a GPU, the others in turn. No torch in here.

Each member's folder is laid out like a run of its own, so each process is the ordinary trainer;
members of one base may share one, which trains them at once (`abreast`).
What it learns does not depend on its neighbours, and a member that is done is never trained again.
This process only starts them, passes a stop on, and beats the run's heart while one of them moves.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import KwanzaaError, StoreError
from kwanzaa_compute.store.folder import CONFIG, Done, Failure, Heartbeat, RunFolder, TrainingPhase
from kwanzaa_compute.store.folder import member_url as url_of
from kwanzaa_compute.store.objects import open_store
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.preflight import QUERY
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop, StoppedError, StopWatch

LOOK_S = 0.1
"""Seconds between two looks at the processes."""
EXIT_APART = 76
"""How a process ends that cannot train its members at once."""
NOTHING = Heartbeat(sequence=-1, phase=TrainingPhase.DOWNLOAD, attempt=0)


class MembersFailedError(Exception):
    """Members have failed, and all others are done. `failure` is what to tell the watcher."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ApartError(Exception):
    """An adapter that cannot learn beside others on one base: it is to be trained alone."""


@dataclass(slots=True)
class Member:
    """One adapter of the run, and the process that trains it, where one does."""

    name: str
    folder: RunFolder
    beat: Heartbeat = NOTHING
    done: Done | None = None
    failure: Failure | None = None
    place: str | None = None
    """Where its process works; None where that process is another member's as well, who has it."""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def has_ended(self) -> bool:
        """Whether its process was started and has ended."""
        return self.process is not None and self.process.poll() is not None


def train_members(  # noqa: PLR0917 -- what an attempt consists of
    folder: RunFolder,
    names: tuple[str, ...],
    settings: Settings,
    work: Path,
    journal: Journal,
    clock: Clock,
    stop: Stop,
) -> Done:
    """Trains every member that is not done yet; returns the run's done marker, not yet written.

    Raises `StoppedError` where it was asked to stop, after each running member's checkpoint;
    `MembersFailedError` where one cannot be trained, once the others are; `StoreError`.
    """
    url = folder.store.url
    members = [Member(name, RunFolder(open_store(url_of(url, name)))) for name in names]
    watch = StopWatch(stop, folder, settings.attempt, settings.heartbeat_s, clock)
    crew = Crew(members, settings, work, journal, clock, places(os.environ))
    try:
        crew.work(watch)
    finally:
        crew.dismiss()
    return _verdict(members, settings.attempt, watch.reason())


@dataclass(slots=True)
class Crew:
    """The members of a run at work, at most one in each place (a GPU's number, or "")."""

    members: list[Member]
    settings: Settings
    work_folder: Path
    journal: Journal
    clock: Clock
    places: tuple[str, ...]
    _looked_at: float = field(default=float("-inf"))
    _waiting: "deque[Sequence[Member]]" = field(default_factory=deque)

    def work(self, watch: StopWatch) -> None:
        """Until every member is done or has failed, or, after a stop, until none is running."""
        for member in self.members:
            member.done = member.folder.done()
        undone = [member for member in self.members if member.done is None]
        waiting = self._waiting = deque(companies(undone, len(self.places)))
        free = list(self.places)
        told_to_stop = False
        self.journal.progress(TrainingPhase.DOWNLOAD, **self._sums(NOTHING))
        while waiting or self._running():
            if watch.reason():
                waiting.clear()
                told_to_stop = told_to_stop or self._pass_on_stop()
            while waiting and free:
                self._start(waiting.popleft(), free.pop(0))
            self.clock.sleep(min(LOOK_S, self.settings.heartbeat_s or LOOK_S))
            self._listen()
            ended = [self._take_down(member) for member in self._running() if member.has_ended]
            free += [place for place in ended if place is not None]

    def dismiss(self) -> None:
        """Leaves no process behind, whatever happened."""
        for member in self._running():
            if member.process:
                member.process.kill()
                member.process.wait()

    def _running(self) -> list[Member]:
        return [member for member in self.members if member.process is not None]

    def _start(self, company: Sequence[Member], place: str) -> None:
        where = f" on GPU {place}" if place else ""
        for member in company:
            self.journal.say("member", f"{member.name} begins{where}", member=member.name)
        environment = {
            **os.environ,
            "KWANZAA_ATTEMPT": str(self.settings.attempt),
            "KWANZAA_WORK": str(self._scratch_of(company[0])),
            "KWANZAA_EXPECTED": "",  # the machine has been looked over once, as a whole
        }
        if place:
            environment["CUDA_VISIBLE_DEVICES"] = place
        urls = [member.folder.store.url for member in company]
        command = [sys.executable, "-m", "kwanzaa_trainer", "run", *urls]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        for member in company:
            member.process, member.place = process, None
        company[0].place = place

    def _take_down(self, member: Member) -> str | None:
        """How a member's process ended; returns the place that is free again, if it had one."""
        code = member.process.returncode if member.process else 0
        member.process = None
        # Its copy of the base: the next member needs the room.
        shutil.rmtree(self._scratch_of(member), ignore_errors=True)
        member.done = member.folder.done()
        if member.done is not None:
            self.journal.say("member", f"{member.name} is done", member=member.name)
            self.journal.progress(TrainingPhase.SAVE, member=member.name, **self._sums(member.beat))
        elif code == EXIT_APART and member.folder.failure(self.settings.attempt) is None:
            self.journal.say("member", f"{member.name} is to be trained alone", member=member.name)
            self._waiting.append((member,))
        else:
            attempt = self.settings.attempt
            member.failure = member.folder.failure(attempt) or Failure(
                attempt, f"its trainer ended with code {code}", retryable=True
            )
            text = f"{member.name} has not been finished: {member.failure.message}"
            self.journal.say("member", text, level="warning", member=member.name)
        return member.place

    def _scratch_of(self, member: Member) -> Path:
        return self.work_folder / member.name

    def _pass_on_stop(self) -> bool:
        for member in self._running():
            if member.process:
                member.process.send_signal(signal.SIGTERM)
        return True

    def _listen(self) -> None:
        """Beats the run's heart for each member whose own has beaten: only what moves counts."""
        now = self.clock.monotonic()
        if now - self._looked_at < self.settings.heartbeat_s:
            return
        self._looked_at = now
        for member in self._running():
            try:
                beat = member.folder.heartbeat(self.settings.attempt)
            except StoreError:
                continue  # no news; the member itself minds the store
            if beat is not None and beat.sequence != member.beat.sequence:
                member.beat = beat
                self._pass_on(member, beat)

    def _pass_on(self, member: Member, beat: Heartbeat) -> None:
        self.journal.progress(
            TrainingPhase(beat.phase),
            member=member.name,
            epoch=beat.epoch,
            loss=beat.loss,
            eval_loss=beat.eval_loss,
            tokens_per_second=beat.tokens_per_second,
            gpu_memory_gib=beat.gpu_memory_gib,
            save_s=beat.save_s,
            **self._sums(beat),
        )

    def _sums(self, newest: Heartbeat) -> Mapping[str, Any]:
        """What all members have done and have to do; one that is not known is like the newest."""
        steps = [m.done.step if m.done else m.beat.step for m in self.members]
        totals = [
            m.done.step if m.done else m.beat.total_steps or newest.total_steps
            for m in self.members
        ]
        left, mine = sum(totals) - sum(steps), newest.total_steps - newest.step
        side_by_side = max(1, len(self._running()))
        eta_s = newest.eta_s
        saved = [f"{m.name}/{m.beat.checkpoint}" for m in self.members if m.beat.checkpoint]
        return {
            "step": sum(steps),
            "total_steps": sum(totals) if all(totals) else 0,
            "tokens": sum(m.beat.tokens for m in self.members),
            "eta_s": eta_s * left / (mine * side_by_side) if eta_s and mine > 0 else None,
            "checkpoint": ", ".join(saved) or None,
        }


def places(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that may be used, by number or name; one nameless place where there is one or none.

    Asks the GPUs' driver, and never torch: this process stays small.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        try:
            done = subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return ("",)
        cards = [line for line in done.stdout.splitlines() if line.strip()]
        visible = ",".join(map(str, range(len(cards))))
    found = tuple(filter(None, (one.strip() for one in visible.split(","))))
    return found if len(found) > 1 else ("",)


def _verdict(members: list[Member], attempt: int, asked_to_stop: str) -> Done:
    failed = [member for member in members if member.failure is not None]
    if all(member.done for member in members):
        return _done(members, attempt)
    stopped = [m for m in failed if m.failure and m.failure.stopped]
    if asked_to_stop or stopped:
        raise StoppedError(asked_to_stop or (stopped[0].failure or NO_FAILURE).message)
    failures = [(member.name, member.failure or NO_FAILURE) for member in failed]
    words = "; ".join(f"{name}: {failure.message}" for name, failure in failures)
    ready = ", ".join(member.name for member in members if member.done)
    raise MembersFailedError(
        Failure(
            attempt,
            f"{words} (done: {ready or 'none'})",
            # Another machine may mend one of them; those that nothing mends fail once more.
            retryable=any(failure.retryable for _, failure in failures),
            mend="; ".join(filter(None, (failure.mend for _, failure in failures))),
        )
    )


def companies(members: Sequence[Member], places: int) -> list[Sequence[Member]]:
    """Who shares a process: those that may learn at once on one base, spread over the places."""
    alike: dict[object, list[Member]] = {}
    for member in members:
        alike.setdefault(_what_is_shared(member) or member.name, []).append(member)
    return [
        group[first :: min(places, len(group))]
        for group in alike.values()
        for first in range(min(places, len(group)))
    ]


def _what_is_shared(member: Member) -> object:
    """What members must have in common to learn at once; None for one that learns alone.

    That the machine is none for it shows later, in the process: it says so and ends with 76.
    """
    try:
        config = TrainingConfig.from_json(member.folder.store.get(CONFIG))
    except (KwanzaaError, ValueError):
        return None  # its own process says what is wrong
    training = config.training
    if training.adapters_at_once == 1 or config.adapter.lora.bias != "none":
        return None
    # Where it is known already that there is no fast path, nobody need try.
    no_gpu = training.fast_path == "auto" and shutil.which(QUERY[0]) is None
    if no_gpu or training.fast_path == "never":
        return None
    raw = config.model_dump(mode="json")
    shared = {
        "model": raw["model"],
        "method": config.adapter.method,
        "quantization": raw["adapter"]["quantization"],
        "run": (config.run.mixed_precision, config.run.deterministic),
        "data": (config.data.max_seq_length, config.data.packing),
        "training": (
            *(training.adapters_at_once, training.fast_path, training.memory_plan),
            *(training.tf32, training.per_device_train_batch_size),
            *(training.gradient_checkpointing, training.optim),
        ),
    }
    return json.dumps(shared, sort_keys=True)


NO_FAILURE = Failure(0, "it was not started", retryable=True)


def _done(members: list[Member], attempt: int) -> Done:
    """One marker for all: files as `<member>/<file>`, and each member's own summary."""
    every = [(member.name, member.done) for member in members if member.done]
    return Done(
        attempt=attempt,
        step=sum(done.step for _, done in every),
        files={f"{name}/{file}": sha for name, done in every for file, sha in done.files.items()},
        summary={"members": {name: dict(done.summary) for name, done in every}},
    )
