"""How long the run is and when things fall due: whole numbers only, no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.packing import row_order


@dataclass(frozen=True, slots=True)
class Schedule:
    """The run's length in optimizer steps. A step never mixes two epochs; its last may be short."""

    rows: int
    rows_per_step: int
    total_steps: int
    seed: int
    logging_steps: int
    eval_steps: int | None
    save_steps: int | None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the rows."""
        return math.ceil(self.rows / self.rows_per_step)

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, row in that epoch's order) at which the step after `step` begins."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch, within * self.rows_per_step

    def rows_of(self, step: int) -> Sequence[int]:
        """The rows that the step after `step` learns from."""
        epoch, at = self.position(step)
        order = row_order(self.rows, seed=self.seed, epoch=epoch)
        return order[at : at + self.rows_per_step]

    def log_due(self, step: int) -> bool:
        """The first and the last step are always logged."""
        return step % self.logging_steps == 0 or step in (1, self.total_steps)

    def eval_due(self, step: int) -> bool:
        """Before the first step, every `eval_steps`, and after the last."""
        if step in (0, self.total_steps):
            return True
        return self.eval_steps is not None and step % self.eval_steps == 0

    def save_due(self, step: int) -> bool:
        """Every `save_steps`, never at 0. After the last step the caller saves by itself."""
        return step > 0 and self.save_steps is not None and step % self.save_steps == 0


def plan_schedule(config: TrainingConfig, rows: int) -> Schedule:
    """The run's schedule for so many rows in one epoch."""
    training = config.training
    per_epoch = math.ceil(rows / training.rows_per_step)
    total = training.max_steps or max(1, math.ceil(training.num_train_epochs * per_epoch))
    return Schedule(
        rows=rows,
        rows_per_step=training.rows_per_step,
        total_steps=total,
        seed=config.run.seed,
        logging_steps=config.run.logging_steps,
        eval_steps=_every(config.evaluation.strategy, config.eval_steps, per_epoch),
        save_steps=_every(config.checkpointing.save_strategy, config.save_steps, per_epoch),
    )


def warmup_steps(config: TrainingConfig, total_steps: int) -> int:
    """How many steps the learning rate rises."""
    return math.ceil(config.training.warmup_ratio * total_steps)


def _every(strategy: str, steps: int, per_epoch: int) -> int | None:
    return {"no": None, "steps": steps, "epoch": per_epoch}[strategy]
