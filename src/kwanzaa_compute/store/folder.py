"""The layout of a run's folder, and the small records that machine and watcher exchange in it.

run.json                    who owns the run, its cap, its attempts (written before spending)
input/config.json           the effective TrainingConfig (JSON, no secrets)
input/training.yaml         the user's file, as it was
input/train.jsonl, eval.jsonl
input/answer_schema.json    the JSON Schema of answers, where replies are held against it
input/base/...              the base model, where it is a folder of the user's
code/<sha256>.zip           the library and the trainer, for machines that have neither
checkpoints/ckpt-<step>-<attempt>/{state.safetensors,state.json,manifest.json}
attempts/<n>/heartbeat.json, metrics.jsonl, log.jsonl, failure.json
attempts/<n>/answers.jsonl, gpu.csv, tensorboard/...    for people; nothing reads them
stop.json                   the watcher's wish: checkpoint, then exit
resume.json                 the user's wish: from which checkpoint to go on
adapter/...                 the finished adapter
done.json                   written last, once: nothing after it counts

A run of several adapters has, in place of input, checkpoints and adapter:

members.json                the names of its members, in the order in which they are trained
members/<name>/...          each member, laid out like a run of its own, with its own done.json
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from kwanzaa_compute.errors import StoreError, StoreMissingError
from kwanzaa_compute.store.objects import Store

RUN = "run.json"
CONFIG = "input/config.json"
USER_YAML = "input/training.yaml"
TRAIN_DATA = "input/train.jsonl"
EVAL_DATA = "input/eval.jsonl"
ANSWER_SCHEMA = "input/answer_schema.json"
BASE_MODEL = "input/base"
CODE = "code"
CHECKPOINTS = "checkpoints"
STOP = "stop.json"
RESUME = "resume.json"
ADAPTER = "adapter"
DONE = "done.json"
MEMBER_NAMES = "members.json"
_MEMBER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class TrainingPhase(StrEnum):
    """What the trainer is doing; each phase may be silent for a different time."""

    DOWNLOAD = "download"
    LOAD = "load"
    TRAIN = "train"
    EVAL = "eval"
    SAVE = "save"


_names_of: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    """The fields of a record's class, looked up once: watchers read thousands a sweep."""
    if kind not in _names_of:
        _names_of[kind] = tuple(f.name for f in fields(kind))
    return _names_of[kind]


class _Record:
    """JSON in and out; unknown keys of a newer version are ignored, missing ones are an error."""

    what: ClassVar[str] = "record"

    def to_json(self) -> bytes:
        values = {name: getattr(self, name) for name in _names(type(self))}
        return json.dumps(values, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises `StoreError` where the bytes are not such a record."""
        try:
            raw = json.loads(data)
            known = _names(cls)
            return cls(**{key: value for key, value in raw.items() if key in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"a {cls.what} in the store cannot be read") from error


@dataclass(frozen=True, slots=True)
class Heartbeat(_Record):
    """Where the trainer is. Stale by the *watcher's* clock since `sequence` last changed."""

    what: ClassVar[str] = "heartbeat"

    sequence: int
    phase: str
    attempt: int
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    eta_s: float | None = None
    gpu_memory_gib: float | None = None
    checkpoint: str | None = None
    save_s: float | None = None
    """How long the last checkpoint took, in seconds."""
    member: str = ""
    """In a run of several adapters, which one moved last; steps and tokens are those of all."""
    interval_s: float | None = None
    """Within how many seconds the next heartbeat comes, if all goes well; None: who knows."""


@dataclass(frozen=True, slots=True)
class Done(_Record):
    """The run is complete. `files` maps each file of the adapter to its sha256."""

    what: ClassVar[str] = "done marker"

    attempt: int
    step: int
    files: dict[str, str]
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure(_Record):
    """Why an attempt ended on its own. Only a retryable failure is tried on another machine."""

    what: ClassVar[str] = "failure record"

    attempt: int
    message: str
    retryable: bool
    mend: str = ""
    stopped: bool = False
    """True: it was asked to stop and did, after a checkpoint."""
    bad_machine: bool = False
    """True: this machine is not what was sold, or does not work; its like is tried last."""


@dataclass(frozen=True, slots=True)
class StopRequest(_Record):
    """A wish of the watcher's: save a checkpoint, then exit."""

    what: ClassVar[str] = "stop request"

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class ResumePoint(_Record):
    """From where the user wants the run to go on.

    Of the checkpoints of attempts up to number `after` only `checkpoint` counts; the others are
    set aside, not deleted. Those of later attempts count as ever.
    """

    what: ClassVar[str] = "resume point"

    checkpoint: str
    after: int


R = TypeVar("R", bound=_Record)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Typed access to one run's folder."""

    store: Store

    @property
    def run_id(self) -> str:
        """The run's id, which is its folder's name; with the member's, in a run of several."""
        names = [name for name in urlsplit(self.store.url).path.split("/") if name]
        is_member = names[-2:-1] == ["members"]
        return "-".join((names[-3], names[-1])) if is_member else names[-1]

    def heartbeat(self, attempt: int) -> Heartbeat | None:
        """The trainer's last word in this attempt; None before its first."""
        return self._read(f"attempts/{attempt}/heartbeat.json", Heartbeat)

    def put_heartbeat(self, beat: Heartbeat) -> None:
        """Replaces the attempt's heartbeat."""
        self.store.put(f"attempts/{beat.attempt}/heartbeat.json", beat.to_json())

    def failure(self, attempt: int) -> Failure | None:
        """Why this attempt ended on its own; None where it has not said so."""
        return self._read(f"attempts/{attempt}/failure.json", Failure)

    def put_failure(self, failure: Failure) -> None:
        """Says why the attempt ends."""
        self.store.put(f"attempts/{failure.attempt}/failure.json", failure.to_json())

    def done(self) -> Done | None:
        """The done marker; None while the run is not complete."""
        return self._read(DONE, Done)

    def put_done(self, done: Done) -> None:
        """Completes the run. Raises `StoreExistsError` where it is complete already."""
        self.store.create(DONE, done.to_json())

    def member_names(self) -> tuple[str, ...]:
        """Its members where it is a run of several adapters, else nothing.

        Raises `StoreError` where the list is damaged: it must not pass for a run of one.
        """
        try:
            names = json.loads(self.store.get(MEMBER_NAMES))
        except StoreMissingError:
            return ()
        except ValueError:
            names = None
        if not isinstance(names, list) or not names or not all(map(_is_member_name, names)):
            raise StoreError(f"{MEMBER_NAMES} in {self.store.url} cannot be read")
        return tuple(names)

    def put_member_names(self, names: Sequence[str]) -> None:
        """Makes it a run of several adapters. Raises ValueError for a name that is no folder's."""
        if not names or not all(map(_is_member_name, names)) or len(set(names)) < len(names):
            raise ValueError(f"{names!r} cannot name members")
        self.store.put(MEMBER_NAMES, json.dumps(list(names)).encode())

    def stop_request(self) -> StopRequest | None:
        """What the watcher wishes; None where it wishes nothing."""
        return self._read(STOP, StopRequest)

    def put_stop_request(self, request: StopRequest) -> None:
        """Asks the trainer to save a checkpoint and exit."""
        self.store.put(STOP, request.to_json())

    def clear_stop_request(self) -> None:
        """Takes the wish back, before another attempt starts."""
        self.store.delete(STOP)

    def resume_point(self) -> ResumePoint | None:
        """From where the user wants the run to go on; None: from the newest checkpoint."""
        return self._read(RESUME, ResumePoint)

    def put_resume_point(self, point: ResumePoint) -> None:
        """Binds every attempt from now on, on whatever machine."""
        self.store.put(RESUME, point.to_json())

    def metrics(self) -> list[Mapping[str, Any]]:
        """Every metrics row of all attempts, in order; a resumed step's newest row wins."""
        rows: dict[tuple[int, str], Mapping[str, Any]] = {}
        names = [o.path for o in self.store.list("attempts") if o.path.endswith("/metrics.jsonl")]
        for name in sorted(names, key=_attempt_of):
            for line in self.store.get(name).splitlines():
                try:
                    row = json.loads(line)
                    rows[int(row["step"]), str(row["kind"])] = row
                except (ValueError, KeyError, TypeError):
                    continue  # a half-written last line of a machine that vanished
        return [rows[key] for key in sorted(rows)]

    def attempts(self) -> list[int]:
        """Numbers of the attempts that have left anything here, ascending."""
        return sorted({_attempt_of(o.path) for o in self.store.list("attempts")})

    def log(self, attempt: int) -> list[str]:
        """What the attempt's trainer said, as far as it was carried into the store. Untrusted."""
        try:
            records = self.store.get(f"attempts/{attempt}/log.jsonl").splitlines()
        except StoreMissingError:
            return []
        return [_said(record) for record in records]

    def _read(self, path: str, kind: type[R]) -> R | None:
        try:
            return kind.from_json(self.store.get(path))
        except StoreMissingError:
            return None


def member_url(run_url: str, name: str) -> str:
    """Where a member's own folder is, below its run's."""
    return f"{run_url.rstrip('/')}/members/{name}"


def _is_member_name(name: object) -> bool:
    return isinstance(name, str) and bool(_MEMBER.fullmatch(name))


def _said(record: bytes) -> str:
    """A record of a log as the trainer printed it; one that cannot be read, as it is."""
    try:
        raw = json.loads(record)
        mark = "" if raw["level"] == "info" else f"{str(raw['level']).upper()}: "
        return f"{raw['time']} {mark}{raw['message']}"
    except (ValueError, KeyError, TypeError):
        return record.decode(errors="replace")


def _attempt_of(path: str) -> int:
    number = path.split("/")[1]
    return int(number) if number.isdigit() else 0
