"""The model in training: its optimizer, its learning rate, and one optimizer step."""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.batches import Batch
from kwanzaa_trainer.data import IGNORED
from kwanzaa_trainer.guard import require_finite, require_loss_scale
from kwanzaa_trainer.memory import ShortOfMemoryError, StepLostError
from kwanzaa_trainer.model import trainable
from kwanzaa_trainer.precision import Device, Precision
from kwanzaa_trainer.schedule import warmup_steps
from kwanzaa_trainer.team import ALONE, Team

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from kwanzaa_trainer.fast.path import FastPath


@dataclass(frozen=True, slots=True)
class Learner:
    """Everything that a step changes: adapter, optimizer, scheduler, loss scale."""

    accelerator: "Accelerator"
    model: Any
    """The `PeftModel`, as accelerate wraps it."""
    optimizer: Any
    """An accelerate optimizer; `.optimizer` is the one that it wraps."""
    scheduler: Any
    parameters: "dict[str, torch.nn.Parameter]"
    """What is trained, by name."""
    max_grad_norm: float
    seed: int
    team: Team = ALONE
    fast: "FastPath | None" = None
    """The fast way through the same model; None: transformers' and peft's own."""
    in_step: bool = False
    """The base is in pieces, so that every process must make every pass that another one makes."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step did. `loss` is the mean over the step's answer tokens."""

    loss: float
    grad_norm: float
    lr: float
    tokens: int


def make_learner(
    model: Any,
    config: TrainingConfig,
    total_steps: int,
    precision: Precision,
    device: Device,
    *,
    fast: "FastPath | None" = None,
    team: Team = ALONE,
    in_step: bool = False,
) -> Learner:
    """The model with optimizer and scheduler, on accelerate; `in_step` if its base is in pieces."""
    from accelerate import Accelerator
    from transformers import get_scheduler

    accelerator = Accelerator(cpu=not device.is_gpu, mixed_precision=precision.autocast)
    optimizer = make_optimizer(trainable(model), config)
    scheduler = get_scheduler(
        config.training.lr_scheduler_type,
        optimizer,
        num_warmup_steps=warmup_steps(config, total_steps),
        num_training_steps=total_steps,
    )
    return Learner(
        accelerator,
        # A team sums gradients itself: accelerate must not wrap the model for it.
        accelerator.prepare_model(
            model, device_placement=not in_step, evaluation_mode=team.size > 1
        ),
        accelerator.prepare_optimizer(optimizer),
        scheduler,
        trainable(model),
        config.training.max_grad_norm,
        config.run.seed,
        team,
        fast,
        in_step,
    )


def make_optimizer(
    parameters: "dict[str, torch.nn.Parameter]", config: TrainingConfig
) -> "torch.optim.Optimizer":
    """The optimizer that `training.optim` names. Biases are not decayed."""
    import torch

    training = config.training
    groups = [
        {
            "params": [p for name, p in parameters.items() if name.endswith("bias") is is_bias],
            "weight_decay": 0.0 if is_bias else training.weight_decay,
        }
        for is_bias in (False, True)
    ]
    options: dict[str, Any] = {
        "lr": training.learning_rate,
        "betas": (training.adam_beta1, training.adam_beta2),
        "eps": training.adam_epsilon,
    }
    used = [group for group in groups if group["params"]]
    if training.optim == "adamw_torch":
        return torch.optim.AdamW(used, **options)
    if training.optim == "adamw_torch_fused":
        return torch.optim.AdamW(used, fused=True, **options)
    import bitsandbytes

    kinds = {
        "adamw_8bit": bitsandbytes.optim.AdamW8bit,
        "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit,
        "paged_adamw_32bit": bitsandbytes.optim.PagedAdamW32bit,
    }
    made: torch.optim.Optimizer = kinds[training.optim](used, **options)
    return made


def answer_loss(model: Any, batch: Batch, device: "torch.device") -> "torch.Tensor":
    """The summed cross-entropy of a batch's answer tokens, in fp32."""
    from torch.nn.functional import cross_entropy

    logits = model(
        input_ids=batch.input_ids.to(device),
        position_ids=batch.position_ids.to(device),
        use_cache=False,
    ).logits
    wanted = batch.labels[:, 1:].to(device).reshape(-1)
    given = logits[:, :-1].float().reshape(-1, logits.shape[-1])
    return cross_entropy(given, wanted, ignore_index=IGNORED, reduction="sum")


def measuring(learner: Learner) -> "Callable[[Batch], torch.Tensor]":
    """A function for the summed loss of a batch's answers, by the way that the learner takes."""
    fast, device = learner.fast, learner.accelerator.device
    if fast is None:
        return lambda batch: answer_loss(learner.model, batch, device)
    fast.refresh()
    return fast.measure


def take_step(learner: Learner, batches: Sequence[Batch]) -> StepResult:
    """One optimizer step over its micro-batches.

    Every micro-batch's loss is divided by the answer tokens of the *whole* step, so a token weighs
    the same wherever the rows were cut. Raises `RunError` before the weights are touched where the
    loss or the gradient is not finite, and `ShortOfMemoryError` where the GPU could not hold it:
    then nothing has changed.
    """
    accelerator = learner.accelerator
    lr = float(learner.scheduler.get_last_lr()[0])
    team = learner.team
    answers, tokens = team.sums(sum(b.answers for b in batches), sum(b.tokens for b in batches))
    mine = _loss_and_gradients(learner, batches, answers)
    value, misfits = team.sums(0.0 if mine is None else float(mine), float(mine is None))
    if misfits:
        _let_go(learner)
        raise ShortOfMemoryError
    team.sum_gradients(learner.parameters.values())
    norm = accelerator.clip_grad_norm_(
        list(learner.parameters.values()), learner.max_grad_norm or math.inf
    )
    grad_norm = float(norm)
    # With loss scaling an infinite gradient is routine: the scaler skips the step and scales down.
    require_finite(loss=value, gradient_norm=0.0 if accelerator.scaler else grad_norm)
    if not _update(learner):
        _let_go(learner)
        raise ShortOfMemoryError
    if not accelerator.optimizer_step_was_skipped:
        learner.scheduler.step()
    learner.optimizer.zero_grad()
    if accelerator.scaler:
        require_loss_scale(float(accelerator.scaler.get_scale()))
    return StepResult(value, grad_norm, lr, int(tokens))


def _loss_and_gradients(
    learner: Learner, batches: Sequence[Batch], answers: float | None = None
) -> "torch.Tensor | None":
    """What these batches add to the step's mean loss, gradients in place; None: no memory.

    The step has so many answer tokens in all its batches; None means in these.

    None and no exception: an exception would keep alive what its frames hold, which is the memory.
    """
    import torch

    if answers is None:
        answers = sum(batch.answers for batch in batches)
    try:
        if learner.fast is not None:
            return _fast_gradients(learner, learner.fast, batches, answers)
        return _reference_gradients(learner, batches, answers)
    except torch.OutOfMemoryError:
        if learner.in_step:
            raise  # the others are in the middle of the same pass, and cannot be told
        return None


def _reference_gradients(
    learner: Learner, batches: Sequence[Batch], answers: float
) -> "torch.Tensor":
    import torch

    accelerator, device = learner.accelerator, learner.accelerator.device
    total = torch.zeros((), device=device, dtype=torch.float32)
    for batch in batches:
        loss = answer_loss(learner.model, batch, device) / answers
        accelerator.backward(loss)
        total += loss.detach()
    return total


def _fast_gradients(
    learner: Learner, fast: "FastPath", batches: Sequence[Batch], answers: float
) -> "torch.Tensor":
    import torch

    from kwanzaa_trainer.fast.dropout import seed_of

    weight = 1 / answers
    step, team = int(learner.scheduler.last_epoch), learner.team
    fast.begin_step()
    losses: list[torch.Tensor] = []
    row = team.rank  # numbered over the whole team: a row's masks are its own, whoever has it
    for batch in batches:
        after = row + batch.input_ids.shape[0] * team.size
        seeds = [seed_of(learner.seed, step, number) for number in range(row, after, team.size)]
        losses.append(fast.learn(batch, weight, seeds))
        row = after
    device = learner.accelerator.device
    return torch.stack(losses).sum() if losses else torch.zeros((), device=device)


def _update(learner: Learner) -> bool:
    """Steps the optimizer; False where there was no room for its states, and nothing changed.

    They are made in the first step, parameter by parameter, so when room ends some parameters have
    moved already: that step alone is prepared to be taken back. A later one makes nothing new;
    should it run short all the same, it raises `StepLostError`.
    """
    import torch

    inner = learner.optimizer.optimizer
    is_first = not inner.state
    parameters = learner.parameters.values() if is_first else ()
    before = [p.detach().to("cpu", copy=True) for p in parameters]
    try:
        learner.optimizer.step()
        fits = True
    except torch.OutOfMemoryError as error:
        if not is_first:
            raise StepLostError("memory ended while the optimizer stepped") from error
        fits = False
    if not is_first or not any(learner.team.sums(float(not fits))):
        return True
    inner.state.clear()
    with torch.no_grad():
        for parameter, value in zip(learner.parameters.values(), before, strict=True):
            parameter.copy_(value)
    return False


def _let_go(learner: Learner) -> None:
    """Frees what a micro-batch that did not fit has left behind."""
    import torch

    learner.optimizer.zero_grad()
    if learner.fast is not None:
        learner.fast.close()
    gc.collect()
    torch.cuda.empty_cache()
