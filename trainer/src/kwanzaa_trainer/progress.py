"""Where a run stands, as far as a checkpoint must know it; and when it stops early. No torch."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from kwanzaa_trainer.guard import is_runaway


@dataclass(slots=True)
class Progress:
    """Everything that changes while a run learns, apart from tensors."""

    step: int = 0
    epoch: int = 0
    row: int = 0
    """The next row in this epoch's order; a pure function of the step, kept to be checked."""
    tokens: int = 0
    """Tokens read so far, without padding."""
    train_s: float = 0.0
    """Seconds spent in optimizer steps, over all attempts."""
    first_loss: float | None = None
    energy_wh: float = 0.0
    """What the GPU drew while the run learned, over all attempts; 0 where none counts it."""
    last_loss: float | None = None
    steps_astray: int = 0
    """Steps in a row whose loss was far above the first one."""
    loss_sum: float = 0.0
    """Sum of the losses since the last logged row."""
    loss_count: int = 0
    evaluated_at: int = -1
    eval_first: float | None = None
    eval_last: float | None = None
    best: float | None = None
    """The least eval loss after step 0, and the step it was seen at."""
    best_step: int = 0
    best_checkpoint: str | None = None
    evaluations_without_gain: int = 0
    is_stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values; floats survive JSON to the last bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Progress":
        """Raises TypeError or KeyError where `raw` is not a progress.

        What earlier versions did not count is taken as not counted yet.
        """
        older = {"first_loss": None, "steps_astray": 0, "energy_wh": 0.0} | raw
        return cls(**{field.name: older[field.name] for field in fields(cls)})

    def note_loss(self, loss: float) -> None:
        """One more step's loss."""
        self.first_loss = loss if self.first_loss is None else self.first_loss
        self.steps_astray = self.steps_astray + 1 if is_runaway(loss, self.first_loss) else 0
        self.last_loss = loss
        self.loss_sum += loss
        self.loss_count += 1

    def take_mean_loss(self) -> float:
        """The mean loss since the last time this was asked."""
        mean = self.loss_sum / self.loss_count
        self.loss_sum, self.loss_count = 0.0, 0
        return mean


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """When to give up: `patience` evaluations in a row without a gain above `threshold`."""

    patience: int
    threshold: float


def note_eval(progress: Progress, loss: float, early: EarlyStopping | None) -> bool:
    """Records an evaluation at the progress's step; True where it is the best so far.

    The one before the first step is a baseline only: it is never the best, and no gain is
    measured from it.
    """
    progress.evaluated_at = progress.step
    progress.eval_last = loss
    if progress.step == 0:
        progress.eval_first = loss
        return False
    gain = math.inf if progress.best is None else progress.best - loss
    gained = gain > (early.threshold if early else 0.0)
    progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
    if early and progress.evaluations_without_gain >= early.patience:
        progress.is_stopped_early = True
    if gain <= 0:
        return False
    progress.best, progress.best_step = loss, progress.step
    return True
