"""A learner as two files, tensors and JSON, and back again to the last bit. No pickle.

What is written: the adapter, the optimizer's state, the learning rate's position, the loss scale,
every random generator, and the `Progress`. What is not: anything that the config says.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.errors import CheckpointError, ConfigError
from kwanzaa_compute.store.checkpoints import STATE, TENSORS
from kwanzaa_trainer import randomness
from kwanzaa_trainer.guard import require_sound
from kwanzaa_trainer.learner import Learner
from kwanzaa_trainer.progress import Progress

if TYPE_CHECKING:
    import torch

FORMAT = 1
Tensors = dict[str, "torch.Tensor"]
Identity = dict[str, Any]
"""What must be equal for a checkpoint to be this run's: see `inputs.identity`."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint's content, read and not yet applied."""

    tensors: Tensors
    state: dict[str, Any]

    @property
    def progress(self) -> Progress:
        """Where the run stood."""
        return Progress.from_json(self.state["progress"])

    @property
    def threads(self) -> int:
        """CPU threads of torch when it was written."""
        return int(self.state["threads"])


def write(folder: Path, learner: Learner, progress: Progress, identity: Identity) -> list[Path]:
    """Writes the checkpoint's files into a local folder; returns them.

    Raises `RunError` where the adapter holds what is not a number: nothing is written then.
    """
    import torch
    from safetensors.torch import save_file

    require_sound(learner.parameters)
    folder.mkdir(parents=True, exist_ok=True)
    optimizer_tensors, optimizer_values = _optimizer_state(learner)
    rng_tensors, rng_values = randomness.capture()
    adapter = {f"adapter/{name}": value.data for name, value in learner.parameters.items()}
    scheduler = learner.scheduler.state_dict()
    state = {
        "format": FORMAT,
        "identity": identity,
        "progress": progress.to_json(),
        "optimizer": optimizer_values,
        "lr": [group["lr"] for group in learner.optimizer.optimizer.param_groups],
        "scheduler": {k: scheduler[k] for k in ("last_epoch", "_step_count", "_last_lr")},
        "scaler": learner.accelerator.scaler.state_dict() if learner.accelerator.scaler else None,
        "rng": rng_values,
        "threads": torch.get_num_threads(),
    }
    tensors = _copies(adapter | optimizer_tensors | rng_tensors)
    save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(state, sort_keys=True), encoding="utf-8")
    return [folder / TENSORS, folder / STATE]


def read(folder: Path) -> Saved:
    """Reads a checkpoint that was fetched and verified. Raises `CheckpointError`."""
    from safetensors.torch import load_file

    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {state.get('format')}, this trainer reads {FORMAT}",
            mend="resume with the version that wrote it",
        )
    return Saved(load_file(folder / TENSORS), state)


def require_same_run(saved: Saved, identity: Identity) -> None:
    """Raises `ConfigError` naming what differs where the checkpoint is of another run."""
    theirs = saved.state["identity"]
    differing = sorted(
        key for key in theirs.keys() | identity.keys() if theirs.get(key) != identity.get(key)
    )
    if differing:
        raise ConfigError(
            f"the checkpoint in the store was made with other values of {', '.join(differing)}",
            mend="start a new run for a changed config, base or data",
        )


def restore(learner: Learner, saved: Saved) -> Progress:
    """Puts the learner exactly where the checkpoint was taken; the generators last."""
    restore_adapter(learner, saved)
    _restore_optimizer(learner, saved)
    # The shape of the curve is the config's; torch wants to hear that none is stored.
    untouched = {"lr_lambdas": [None] * len(saved.state["lr"])}
    learner.scheduler.load_state_dict(saved.state["scheduler"] | untouched)
    scaler = learner.accelerator.scaler
    if scaler and saved.state["scaler"]:
        scaler.load_state_dict(saved.state["scaler"])
    rng = {name: value for name, value in saved.tensors.items() if name.startswith("rng/")}
    randomness.restore(rng, saved.state["rng"])
    return saved.progress


def restore_adapter(learner: Learner, saved: Saved) -> None:
    """Only the adapter's weights. Raises `CheckpointError` where they do not fit."""
    stored = {k.removeprefix("adapter/") for k in saved.tensors if k.startswith("adapter/")}
    if stored != learner.parameters.keys():
        raise CheckpointError("the checkpoint holds an adapter of another shape")
    for name, parameter in learner.parameters.items():
        parameter.data.copy_(saved.tensors[f"adapter/{name}"])


def _optimizer_state(learner: Learner) -> tuple[Tensors, dict[str, Any]]:
    """The optimizer's state as (tensors, plain values), each by its path."""
    import torch

    tensors: Tensors = {}
    values: dict[str, Any] = {}
    for path, value in _leaves(learner.optimizer.optimizer.state_dict()["state"], "optimizer"):
        (tensors if isinstance(value, torch.Tensor) else values)[path] = value
    return tensors, values


def _restore_optimizer(learner: Learner, saved: Saved) -> None:
    optimizer = learner.optimizer.optimizer
    state: dict[int, Any] = {}
    leaves = {k: v for k, v in saved.tensors.items() if k.startswith("optimizer/")}
    for path, value in (leaves | saved.state["optimizer"]).items():
        _, index, *names, last = path.split("/")
        inner = state.setdefault(int(index), {})
        for name in names:
            inner = inner.setdefault(name, {})
        inner[last] = value
    # The groups' settings are the config's, which is the same; only the rate has moved.
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for group, lr in zip(optimizer.param_groups, saved.state["lr"], strict=True):
        group["lr"] = lr


def _leaves(tree: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}/{key}")
        else:
            yield f"{path}/{key}", value


def _copies(tensors: Tensors) -> Tensors:
    """On the CPU, none sharing memory with another: safetensors refuses shared ones."""
    import torch

    return {
        name: torch.empty(value.shape, dtype=value.dtype, device="cpu").copy_(value.detach())
        for name, value in tensors.items()
    }
