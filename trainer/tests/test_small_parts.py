"""The parts that need no model: precision, schedule, early stopping, settings, journal, card."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import (
    CheckpointError,
    ConfigError,
    RunError,
    StoreError,
    UsageError,
)
from kwanzaa_compute.store.folder import RunFolder, TrainingPhase
from kwanzaa_compute.store.objects import open_store
from kwanzaa_trainer.__main__ import main
from kwanzaa_trainer.attempt import failure_of
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.precision import Device, choose_precision
from kwanzaa_trainer.preflight import BadMachineError
from kwanzaa_trainer.progress import EarlyStopping, Progress, note_eval
from kwanzaa_trainer.schedule import plan_schedule, warmup_steps
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import StoppedError

A100, T4, P100 = Device("A100", (8, 0)), Device("T4", (7, 5)), Device("P100", (6, 0))


@pytest.mark.parametrize(
    ("wanted", "device", "name", "reason"),
    [
        ("bf16", A100, "bf16", "A100 has compute capability 8.0: bf16 is native"),
        ("bf16", T4, "fp16", "T4 has compute capability 7.5: fp16 with loss scaling, bf16 needs 8"),
        ("fp16", A100, "fp16", "as asked"),
        ("bf16", P100, "fp32", "P100 has compute capability 6.0: half precision needs 7.0"),
        ("bf16", Device("CPU"), "fp32", "without a GPU"),
        ("no", A100, "fp32", "run.mixed_precision is no"),
    ],
)
def test_precision_falls_back_with_its_reason(
    wanted: str, device: Device, name: str, reason: str
) -> None:
    precision = choose_precision(wanted, device)
    assert precision.name == name
    assert reason in precision.reason


def _config(**training: Any) -> TrainingConfig:
    evaluation = training.pop("evaluation", {"steps": 4})
    checkpointing = training.pop("checkpointing", {"save_steps": 3})
    return TrainingConfig.model_validate(
        {
            "run": {"logging_steps": 5},
            "model": {"base_model_id": "example/tiny"},
            "data": {"train_file": "train.jsonl"},
            "training": {
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 2,
                **training,
            },
            "evaluation": evaluation,
            "checkpointing": checkpointing,
        }
    )


def test_an_epoch_reads_every_row_once_and_no_step_mixes_two() -> None:
    schedule = plan_schedule(_config(num_train_epochs=2), rows=10)
    assert (schedule.steps_per_epoch, schedule.total_steps) == (3, 6)
    steps = [list(schedule.rows_of(step)) for step in range(6)]
    assert [len(rows) for rows in steps] == [4, 4, 2, 4, 4, 2]
    for epoch in (steps[:3], steps[3:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(10))
    assert steps[:3] != steps[3:]
    assert schedule.position(4) == (1, 4)


@pytest.mark.parametrize(
    ("training", "total"),
    [({"num_train_epochs": 0.5}, 2), ({"num_train_epochs": 4, "max_steps": 7}, 7)],
)
def test_length_comes_from_epochs_or_from_max_steps(training: dict[str, Any], total: int) -> None:
    assert plan_schedule(_config(**training), rows=10).total_steps == total


def test_what_falls_due_when() -> None:
    schedule = plan_schedule(_config(max_steps=14), rows=10)
    steps = range(15)
    assert [s for s in steps if schedule.log_due(s) and s] == [1, 5, 10, 14]
    assert [s for s in steps if schedule.eval_due(s)] == [0, 4, 8, 12, 14]
    assert [s for s in steps if schedule.save_due(s)] == [3, 6, 9, 12]
    by_epoch = plan_schedule(
        _config(
            max_steps=7, evaluation={"strategy": "epoch"}, checkpointing={"save_strategy": "no"}
        ),
        rows=10,
    )
    assert [s for s in range(8) if by_epoch.eval_due(s)] == [0, 3, 6, 7]
    assert not any(by_epoch.save_due(s) for s in range(8))


def test_warm_up_is_rounded_up() -> None:
    assert warmup_steps(_config(warmup_ratio=0.03), 100) == 3
    assert warmup_steps(_config(warmup_ratio=0.03), 101) == 4


def _evaluated(losses: list[float], early: EarlyStopping | None) -> Progress:
    progress = Progress()
    for step, loss in enumerate(losses):
        progress.step = step
        note_eval(progress, loss, early)
        if progress.is_stopped_early:
            break
    return progress


def test_early_stopping_counts_evaluations_without_enough_gain() -> None:
    early = EarlyStopping(patience=2, threshold=0.1)
    progress = _evaluated([9.0, 5.0, 4.95, 4.5, 4.45, 4.41, 1.0], early)
    assert progress.is_stopped_early
    assert (progress.step, progress.best, progress.best_step) == (5, 4.41, 5)


def test_the_baseline_is_never_the_best() -> None:
    progress = _evaluated([1.0, 5.0, 6.0], None)
    assert (progress.eval_first, progress.best, progress.best_step) == (1.0, 5.0, 1)
    assert not progress.is_stopped_early


def test_settings_are_read_and_checked() -> None:
    remote = Settings.from_environment("s3://bucket/run", {})
    assert (remote.attempt, remote.heartbeat_s, remote.threads, remote.work) == (1, 10, None, None)
    local = Settings.from_environment(
        "file:///run", {"KWANZAA_ATTEMPT": "3", "KWANZAA_THREADS": "2", "KWANZAA_WORK": "/w"}
    )
    assert local == Settings(3, 1.0, 2, Path("/w"))
    with pytest.raises(UsageError, match="KWANZAA_ATTEMPT='0'"):
        Settings.from_environment("file:///run", {"KWANZAA_ATTEMPT": "0"})
    with pytest.raises(UsageError, match="KWANZAA_HEARTBEAT_S='often'"):
        Settings.from_environment("file:///run", {"KWANZAA_HEARTBEAT_S": "often"})


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ConfigError("x"), False),
        (RunError("x"), False),
        (CheckpointError("x"), False),
        (StoreError("x"), True),
        (OSError("x"), True),
        (ZeroDivisionError("x"), True),
        (StoppedError("x"), True),
    ],
)
def test_only_what_another_try_may_mend_is_retryable(error: Exception, retryable: bool) -> None:
    assert failure_of(1, error).retryable is retryable


def test_a_bad_machine_is_told_from_bad_luck() -> None:
    assert failure_of(1, BadMachineError("its GPU is a T4")).bad_machine
    assert not failure_of(1, RuntimeError("NCCL error")).bad_machine


def test_running_out_of_gpu_memory_says_what_to_lower(torch: Any) -> None:
    failure = failure_of(1, torch.OutOfMemoryError("CUDA out of memory"))
    assert not failure.retryable
    assert "per_device_train_batch_size" in failure.mend


class Ticks:
    """A clock that a test winds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now_s, monotonic=lambda: self.now_s)


def test_the_heartbeat_is_carried_once_an_interval_and_at_each_turn(tmp_path: Path) -> None:
    folder, ticks = RunFolder(open_store(f"file://{tmp_path}")), Ticks()
    journal = Journal(folder, 2, 10.0, ticks.clock)
    journal.progress(TrainingPhase.TRAIN, step=1)
    journal._wait()
    assert folder.heartbeat(2).step == 1
    journal.progress(TrainingPhase.TRAIN, step=2)
    journal._wait()
    assert folder.heartbeat(2).step == 1, "too soon"
    ticks.now_s = 10.0
    journal.progress(TrainingPhase.TRAIN, step=3)
    journal._wait()
    assert folder.heartbeat(2).step == 3
    assert folder.heartbeat(2).sequence == 3
    journal.progress(TrainingPhase.SAVE)
    journal.close()
    assert folder.heartbeat(2).phase == "save"


def test_a_store_that_counts_its_changes_is_not_told_each_turn(tmp_path: Path) -> None:
    folder, ticks = RunFolder(open_store(f"file://{tmp_path}")), Ticks()
    journal = Journal(folder, 1, 300.0, ticks.clock)
    journal.progress(TrainingPhase.LOAD)
    journal._wait()
    ticks.now_s = 299.0
    journal.progress(TrainingPhase.TRAIN, step=1)
    journal.progress(TrainingPhase.SAVE)
    journal._wait()
    assert folder.heartbeat(1).phase == "load"
    ticks.now_s = 300.0
    journal.progress(TrainingPhase.TRAIN, step=2)
    journal._wait()
    assert folder.heartbeat(1).step == 2


def test_infinities_do_not_spoil_the_json(tmp_path: Path) -> None:
    folder = RunFolder(open_store(f"file://{tmp_path}"))
    journal = Journal(folder, 1, 0.0, Clock())
    journal.metric("train", 1, 0.1, grad_norm=math.inf)
    journal.progress(TrainingPhase.TRAIN, loss=math.nan)
    journal.close()
    (row,) = folder.metrics()
    assert row["grad_norm"] is None
    assert float.fromhex(row["loss_hex"]) == 0.1
    assert folder.heartbeat(1).loss is None


def test_lines_for_people_go_to_stderr_and_records_to_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(open_store(f"file://{tmp_path}"))
    journal = Journal(folder, 1, 0.0, Clock(now=lambda: 0.0))
    journal.say("odd", "something odd", level="warning", step=4)
    journal.close()
    captured = capsys.readouterr()
    assert captured.err == "1970-01-01T00:00:00Z WARNING: something odd\n"
    assert not captured.out
    record = json.loads(folder.store.get("attempts/1/log.jsonl"))
    assert record == {
        "time": "1970-01-01T00:00:00Z",
        "level": "warning",
        "event": "odd",
        "message": "something odd",
        "step": 4,
    }


@pytest.mark.parametrize("argv", [[], ["run"], ["walk", "file:///x"], ["run", "http://x"]])
def test_a_wrong_command_line_is_a_usage_error(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err


def test_a_driver_that_lets_no_memory_grow_gets_pieces_of_a_fixed_size() -> None:
    from kwanzaa_trainer.allocator import FIXED, VARIABLE, ask_for_growing, keep_what_works

    environ: dict[str, str] = {}
    ask_for_growing(environ)
    told: list[str] = []

    def refuse_to_grow() -> None:
        if not told:
            raise RuntimeError("CUDA driver error: operation not supported\nmore")

    words = keep_what_works(refuse_to_grow, told.append, environ)
    assert words == "CUDA driver error: operation not supported"
    assert told == [FIXED]
    assert environ[VARIABLE] == FIXED
    assert keep_what_works(refuse_to_grow, told.append, environ) == ""
    assert told == [FIXED]


def test_a_driver_that_gives_no_memory_at_all_still_fails_the_run() -> None:
    from kwanzaa_trainer.allocator import GROWING, VARIABLE, keep_what_works

    def refuse() -> None:
        raise RuntimeError("no CUDA-capable device")

    with pytest.raises(RuntimeError, match="no CUDA-capable"):
        keep_what_works(refuse, lambda _: None, {VARIABLE: GROWING})
