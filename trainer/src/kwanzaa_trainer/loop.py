"""The training loop: step, log, evaluate, save, stop; every turn starts at a whole step."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.market.interruptions import checkpoint_interval_s
from kwanzaa_compute.store.checkpoints import CheckpointName
from kwanzaa_compute.store.folder import TrainingPhase
from kwanzaa_trainer import checkpoint
from kwanzaa_trainer.batches import Batch, collate, micro_batches, nothing_to_learn
from kwanzaa_trainer.charts import Charts
from kwanzaa_trainer.data import DataSet
from kwanzaa_trainer.effort import Effort
from kwanzaa_trainer.evaluate import eval_loss, perplexity
from kwanzaa_trainer.guard import require_finite, require_progress
from kwanzaa_trainer.health import Health, gpu_memory_gib
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.learner import Learner, StepResult, measuring, take_step
from kwanzaa_trainer.manifest import Shelf
from kwanzaa_trainer.memory import Case, Footing, ShortOfMemoryError, lower
from kwanzaa_trainer.model import base_checksum, set_recomputation
from kwanzaa_trainer.packing import Row
from kwanzaa_trainer.preflight import BadMachineError
from kwanzaa_trainer.progress import EarlyStopping, Progress, note_eval
from kwanzaa_trainer.schedule import Schedule
from kwanzaa_trainer.stopping import StoppedError, StopWatch
from kwanzaa_trainer.team import Team

if TYPE_CHECKING:
    import torch


SAVE_S = 5.0
"""What a first checkpoint is taken to cost, in seconds."""
STEPS_OF_PATIENCE = 2.0
"""The next step is promised within so many of the longest one until now."""


class SmallerBaseError(Exception):
    """The run goes on, but needs its base loaded in fewer bits: on `footing`."""

    def __init__(self, footing: Footing) -> None:
        super().__init__(footing.name)
        self.footing = footing


@dataclass(frozen=True, slots=True)
class Examples:
    """A data file in the rows that it is read in."""

    data: DataSet
    rows: list[Row]


@dataclass(slots=True)
class Training:
    """A run in training: what it learns with, what it learns from, where it stands."""

    config: TrainingConfig
    attempt: int
    learner: Learner
    schedule: Schedule
    train: Examples
    eval: Examples | None
    pad_id: int
    identity: checkpoint.Identity
    shelf: Shelf
    scratch: Path
    journal: Journal
    charts: Charts
    watch: StopWatch
    clock: Clock
    case: Case
    footing: Footing
    effort: Effort | None = None
    """What a token costs and what the GPU could do; None where that cannot be known."""
    health: Health | None = None
    """The watch over the GPU; None where there is none."""
    base_checksum: int | None = None
    """What the frozen weights summed up to when they were loaded; None: not to be checked."""
    progress: Progress = field(default_factory=Progress)
    saved_at: int = -1
    """The step of the newest checkpoint that this attempt wrote or resumed from."""
    last_save: float = 0.0
    """When a checkpoint was last tried, on the monotonic clock."""
    step_s: float | None = None
    """Seconds a step takes, smoothed."""
    longest_step_s: float = 0.0
    save_s: float = SAVE_S
    """Seconds that the last checkpoint took; assumed before the first."""
    interruptions_per_h: float = 0.0

    @property
    def team(self) -> Team:
        """The processes that learn together."""
        return self.learner.team

    @property
    def device(self) -> "torch.device":
        """Where the learner computes."""
        return self.learner.accelerator.device  # type: ignore[no-any-return]

    @property
    def least_row(self) -> int:
        """To what length rows are filled up at least: packed ones to the full for the fast path."""
        data = self.config.data
        return data.max_seq_length if data.packing and self.learner.fast is not None else 0

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing more to learn."""
        return self.progress.is_stopped_early or self.progress.step >= self.schedule.total_steps


def learn(run: Training) -> None:
    """Trains to the end. Raises `StoppedError` after a checkpoint where somebody asked.

    The turn's first half repeats on resumption what fell due at the checkpoint's own step and had
    not been done, so an interrupted evaluation is not lost.
    """
    run.learner.model.train()
    run.last_save = run.clock.monotonic()
    while True:
        is_best = _evaluate_if_due(run)
        if run.is_finished and not _owes_an_evaluation(run):
            break  # even where a stop was asked for: what is left costs less than another machine
        # One process decides for all: what depends on the clock or on signals differs among them.
        reason, is_due = run.team.agreed((run.watch.reason(), _save_is_due(run, is_best=is_best)))
        if reason:
            _stop(run, reason)
        if is_due:
            save(run)
        _step(run)
    if run.saved_at != run.progress.step:
        save(run)


def save(run: Training) -> bool:
    """Writes a checkpoint of this very step; False where the store would not have it.

    That is said and not raised: the next interval tries again. Of a team the leader writes it, and
    the others wait for what came of it.
    """
    _require_sound_base(run)
    is_stored = run.team.agreed(_save(run) if run.team.leads else False)
    run.progress.best_checkpoint = run.team.agreed(run.progress.best_checkpoint)
    if is_stored:
        run.saved_at = run.progress.step
    return is_stored


def _require_sound_base(run: Training) -> None:
    """Raises `BadMachineError` where a frozen weight has changed in any process's memory.

    Nothing writes there, so the memory is bad: the run goes on from its last checkpoint, elsewhere.
    """
    if run.base_checksum is None:
        return
    has_changed = base_checksum(run.learner.model) != run.base_checksum
    if any(run.team.sums(float(has_changed))):
        raise BadMachineError(
            f"the base model's weights have changed in memory by step {run.progress.step}",
            mend="nothing; the run goes on from its last checkpoint on another machine",
        )


def _save(run: Training) -> bool:
    name = CheckpointName(run.progress.step, run.attempt)
    best_before = run.progress.best_checkpoint
    if run.config.checkpointing.load_best_model_at_end and run.progress.best_step == name.step > 0:
        run.progress.best_checkpoint = str(name)
    started = run.last_save = run.clock.monotonic()
    run.journal.progress(TrainingPhase.SAVE)
    folder = run.scratch / "checkpoint"
    files = checkpoint.write(folder, run.learner, run.progress, run.identity)
    wrong = _shelve(run, name, files)
    if wrong:
        run.progress.best_checkpoint = best_before
        run.journal.say("checkpoint_failed", f"checkpoint not stored: {wrong}", level="warning")
        return False
    took_s = run.save_s = run.clock.monotonic() - started
    run.journal.say("checkpoint", f"checkpoint {name} stored", name=str(name), save_s=took_s)
    run.journal.progress(TrainingPhase.SAVE, checkpoint=str(name), save_s=took_s)
    carry_curves(run)
    run.journal.flush()
    return True


def carry_curves(run: Training) -> None:
    """Charts and the GPU's health into the store, as far as they have come."""
    store, folder = run.shelf.store, f"attempts/{run.attempt}"
    run.charts.upload(store, folder, run.journal)
    if run.health is not None:
        run.health.upload(store, f"{folder}/gpu.csv", run.journal)


def _shelve(run: Training, name: CheckpointName, files: list[Path]) -> str:
    """Stores a checkpoint and deletes what it supersedes; returns what went wrong, or ""."""
    best = CheckpointName.parse(run.progress.best_checkpoint or "")
    try:
        wrong = run.shelf.add(name, files)
        if not wrong:
            gone = run.shelf.rotate(best)
            if gone:
                run.journal.say("rotated", f"deleted {', '.join(map(str, gone))}")
    except StoreError as error:
        # Past the manifest the checkpoint stands, even where tidying up behind it failed.
        return "" if run.shelf.known.get(name) else str(error)
    return wrong


def _save_is_due(run: Training, *, is_best: bool) -> bool:
    step = run.progress.step
    # A run that is running away keeps its last good checkpoint as its newest one.
    if run.saved_at == step or run.progress.steps_astray:
        return False
    if run.clock.monotonic() - run.last_save >= _save_every_s(run):
        return True
    keep_best = is_best and run.config.checkpointing.load_best_model_at_end
    return keep_best or run.schedule.save_due(step)


def _save_every_s(run: Training) -> float:
    """What the config says, or sooner where losing the machine would cost more than saving does."""
    said = run.config.checkpointing.save_seconds
    wise = checkpoint_interval_s(run.save_s, run.interruptions_per_h)
    return wise if said is None else min(said, wise)


def _stop(run: Training, reason: str) -> None:
    """A checkpoint, then the end. Raises `StoppedError`, or `StoreError` without a checkpoint."""
    run.journal.say("stopping", f"stopping at step {run.progress.step}: {reason}")
    if run.saved_at != run.progress.step and not save(run):
        raise StoreError("asked to stop, but the store took no checkpoint")
    raise StoppedError(reason)


def _evaluate_if_due(run: Training) -> bool:
    """Evaluates where it is due; True where the result is the best so far."""
    progress = run.progress
    if run.eval is None or not _owes_an_evaluation(run):
        return False
    loss = eval_loss(
        run.learner.model,
        run.eval.data.samples,
        run.eval.rows,
        batch_rows=run.config.training.per_device_eval_batch_size,
        pad_id=run.pad_id,
        measure=measuring(run.learner),
        go_on=lambda: _is_evaluating(run),
        team=run.team,
        in_step=run.learner.in_step,
    )
    if loss is None:
        return False  # interrupted: resumption evaluates this step again
    require_finite(eval_loss=loss)
    is_best = note_eval(progress, loss, _early_stopping(run.config))
    _report_eval(run, loss, is_best=is_best)
    return is_best


def _owes_an_evaluation(run: Training) -> bool:
    """Whether one is due at this step and has not been made."""
    step = run.progress.step
    due = run.is_finished or run.schedule.eval_due(step)
    return run.eval is not None and due and run.progress.evaluated_at != step


def _is_evaluating(run: Training) -> bool:
    run.journal.progress(TrainingPhase.EVAL)
    reason = run.watch.stop.reason
    return not (run.team.agreed(reason) if run.learner.in_step else reason)


def _early_stopping(config: TrainingConfig) -> EarlyStopping | None:
    wish = config.training.early_stopping
    return EarlyStopping(wish.patience, wish.threshold) if wish.enabled else None


def _report_eval(run: Training, loss: float, *, is_best: bool) -> None:
    step, words = run.progress.step, perplexity(loss)
    best = " (best so far)" if is_best else ""
    run.journal.say("eval", f"step {step}: eval loss {loss:.4f}{best}", step=step, loss=loss)
    run.journal.metric("eval", step, loss, perplexity=words, tokens=run.progress.tokens)
    run.charts.add("eval", step, loss=loss, perplexity=words)
    carry_curves(run)
    run.journal.progress(TrainingPhase.EVAL, eval_loss=loss)
    if run.progress.is_stopped_early:
        patience = run.config.training.early_stopping.patience
        run.journal.say(
            "early_stop", f"stopping early: no gain in {patience} evaluations", step=step
        )


def _step(run: Training) -> None:
    """One optimizer step, from its rows to its line in the log."""
    progress = run.progress
    started = run.clock.monotonic()
    try:
        result = take_step(run.learner, _batches(run))
    except ShortOfMemoryError:
        _step_down(run)
        return  # the loop turns again and takes the same step, cut otherwise
    took_s = run.clock.monotonic() - started
    progress.step += 1
    progress.epoch, progress.row = run.schedule.position(progress.step)
    progress.tokens += result.tokens
    progress.train_s += took_s
    if run.health is not None:
        company = run.learner.fast and run.learner.fast.company
        drawn_wh = run.health.look(progress.step)
        progress.energy_wh += drawn_wh * (company.share if company else 1.0)
    progress.note_loss(result.loss)
    run.longest_step_s = max(run.longest_step_s, took_s)
    require_progress(progress.steps_astray, result.loss, progress.first_loss)
    run.step_s = took_s if run.step_s is None else 0.9 * run.step_s + 0.1 * took_s
    _report_step(run, result, tokens_per_second=result.tokens / took_s)


def _batches(run: Training) -> list[Batch]:
    """This process's share of the step's rows, cut to the footing."""
    rows, samples = run.schedule.rows_of(run.progress.step), run.train.data.samples
    pieces = micro_batches(run.team.share(rows), run.footing.rows)
    fillers = 0
    if run.learner.in_step:
        fillers = len(micro_batches(rows[:: run.team.size], run.footing.rows)) - len(pieces)
    batches = [
        collate(samples, [run.train.rows[i] for i in p], run.pad_id, length=run.least_row)
        for p in (*pieces, *[rows[:1]] * fillers)
    ]
    return [b if n < len(pieces) else nothing_to_learn(b) for n, b in enumerate(batches)]


def _step_down(run: Training) -> None:
    """One rung down the memory ladder. Raises `ShortOfMemoryError` where this is the lowest.

    Where other adapters have just made room, it is tried again on the same rung.
    Raises `SmallerBaseError` where the base must be loaded anew for it.
    """
    fast = run.learner.fast
    if fast is not None and fast.company is not None and fast.company.made_room():
        return
    now, below = run.footing, lower(run.case, run.footing)
    if below is None:
        raise ShortOfMemoryError
    run.journal.say(
        "short_of_memory",
        f"step {run.progress.step + 1} did not fit: {now.name}; going on with {below.name}",
        level="warning",
        rung=below.name,
    )
    if below.quantised != now.quantised:
        raise SmallerBaseError(below)
    run.footing = below
    if fast is not None:
        fast.recompute_every = below.recompute_every
    base = run.learner.accelerator.unwrap_model(run.learner.model).get_base_model()
    set_recomputation(base, run.config, on=below.recompute_every > 0)


def _report_step(run: Training, result: StepResult, *, tokens_per_second: float) -> None:
    progress, total = run.progress, run.schedule.total_steps
    run.journal.progress(
        TrainingPhase.TRAIN,
        next_s=STEPS_OF_PATIENCE * run.longest_step_s,
        step=progress.step,
        total_steps=total,
        epoch=progress.step / run.schedule.steps_per_epoch,
        loss=result.loss,
        tokens=progress.tokens,
        tokens_per_second=tokens_per_second,
        eta_s=(total - progress.step) * (run.step_s or 0.0),
        gpu_memory_gib=gpu_memory_gib(),
    )
    if not run.schedule.log_due(progress.step):
        return
    loss = progress.take_mean_loss()
    mfu = {} if run.effort is None else {"mfu_percent": run.effort.mfu_percent(tokens_per_second)}
    shown = "".join(f", {share:.1f} % MFU" for share in mfu.values())
    run.journal.say(
        "step",
        f"step {progress.step}/{total}: loss {loss:.4f}, {tokens_per_second:.0f} tokens/s{shown}",
        step=progress.step,
        loss=loss,
    )
    row = {
        "lr": result.lr,
        "grad_norm": result.grad_norm,
        "tokens_per_second": tokens_per_second,
        "perplexity": perplexity(loss),
        **mfu,
    }
    epoch = progress.step / run.schedule.steps_per_epoch
    run.journal.metric("train", progress.step, loss, tokens=progress.tokens, epoch=epoch, **row)
    run.charts.add("train", progress.step, loss=loss, **row)
