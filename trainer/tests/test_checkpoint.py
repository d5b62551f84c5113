"""A learner written and read back, to the last bit, with everything that has a state."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import CheckpointError, ConfigError
from kwanzaa_trainer import checkpoint, randomness
from kwanzaa_trainer.batches import collate
from kwanzaa_trainer.learner import Learner, make_learner, take_step
from kwanzaa_trainer.model import Base, attach_adapter, load_base
from kwanzaa_trainer.precision import Device, choose_precision
from kwanzaa_trainer.progress import Progress

CPU = Device("CPU")
FP32 = choose_precision("no", CPU)
OPTIMIZERS = ["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_32bit"]
PROGRESS = Progress(step=2, tokens=10, train_s=0.1 + 0.2, last_loss=1 / 3, best=2 / 3)


def _learner(base: Path, **training: Any) -> Learner:
    config = TrainingConfig.model_validate(
        {
            "model": {"base_model_id": "example/tiny"},
            "data": {"train_file": "train.jsonl"},
            "adapter": {"method": "lora", "lora": {"r": 64, "dropout": 0.1, "bias": "lora_only"}},
            "training": {"warmup_ratio": 0.2, "weight_decay": 0.01, **training},
        }
    )
    randomness.seed_everything(5, deterministic=True, is_gpu=False)
    model = attach_adapter(load_base(config, Base(str(base)), FP32, CPU), config)
    learner = make_learner(model, config, 10, FP32, CPU)
    learner.model.train()
    return learner


def _steps(learner: Learner, rows: Any, count: int) -> list[str]:
    batches = [collate(rows, [(0, 1)], 0), collate(rows, [(2,)], 0)]
    return [take_step(learner, batches).loss.hex() for _ in range(count)]


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_what_is_read_goes_on_as_what_was_written(
    base: Path, samples: Callable[..., Any], tmp_path: Path, optim: str
) -> None:
    rows = samples([40, 30, 60])
    learner = _learner(base, optim=optim)
    _steps(learner, rows, 2)
    checkpoint.write(tmp_path, learner, PROGRESS, {"base": "b"})
    expected = _steps(learner, rows, 3)
    weights = {n: p.detach().clone() for n, p in learner.parameters.items()}

    other = _learner(base, optim=optim)
    progress = checkpoint.restore(other, checkpoint.read(tmp_path))
    assert progress == PROGRESS
    assert _steps(other, rows, 3) == expected
    assert all((other.parameters[n] == w).all() for n, w in weights.items())
    assert other.scheduler.get_last_lr() == learner.scheduler.get_last_lr()


def test_8_bit_states_are_really_stored(
    base: Path, samples: Callable[..., Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    learner = _learner(base, optim="adamw_8bit")
    _steps(learner, samples([40, 30, 60]), 1)
    checkpoint.write(tmp_path, learner, PROGRESS, {})
    dtypes = {
        str(t.dtype) for n, t in load_file(tmp_path / "state.safetensors").items() if "state1" in n
    }
    assert "torch.uint8" in dtypes, "matrices of 4096 and more are kept in 8 bits"


def test_the_loss_scale_of_fp16_is_carried_along(torch: Any, base: Path, tmp_path: Path) -> None:
    learner = _learner(base, optim="adamw_torch")
    learner.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    learner.accelerator.scaler.scale(torch.ones(()))
    checkpoint.write(tmp_path, learner, PROGRESS, {})
    other = _learner(base, optim="adamw_torch")
    other.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    checkpoint.restore(other, checkpoint.read(tmp_path))
    assert other.accelerator.scaler.state_dict()["scale"] == 512.0


def test_every_generator_is_found_where_it_was(torch: Any) -> None:
    import numpy as np

    def draw() -> list[float]:
        legacy = np.random.random_sample()  # noqa: NPY002 -- the generator that libraries use
        return [random.random(), random.gauss(0, 1), legacy, float(torch.rand(()))]

    randomness.seed_everything(3, deterministic=True, is_gpu=False)
    draw()
    tensors, plain = randomness.capture()
    plain = json.loads(json.dumps(plain))
    expected = draw()
    randomness.seed_everything(4, deterministic=True, is_gpu=False)
    randomness.restore(tensors, plain)
    assert draw() == expected


def test_a_checkpoint_of_another_run_names_what_differs(base: Path, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, _learner(base), PROGRESS, {"base": "a", "seed": 1, "r": 8})
    saved = checkpoint.read(tmp_path)
    checkpoint.require_same_run(saved, {"base": "a", "seed": 1, "r": 8})
    with pytest.raises(ConfigError, match="other values of base, r"):
        checkpoint.require_same_run(saved, {"base": "b", "seed": 1})


def test_an_adapter_of_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    learner = _learner(base)
    checkpoint.write(tmp_path, learner, PROGRESS, {})
    saved = checkpoint.read(tmp_path)
    saved.tensors.pop(next(name for name in saved.tensors if name.startswith("adapter/")))
    with pytest.raises(CheckpointError, match="another shape"):
        checkpoint.restore(learner, saved)


def test_another_format_is_refused(base: Path, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, _learner(base), PROGRESS, {})
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(state | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.read(tmp_path)
