"""Cards without bf16 (T4, V100): fp16 with loss scaling, LoRA in fp32, by the reference path."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.batches import collate
from kwanzaa_trainer.learner import Learner, make_learner, take_step
from kwanzaa_trainer.loading import _reason_against
from kwanzaa_trainer.memory import Case, ladder
from kwanzaa_trainer.model import Base, attach_adapter, base_checksum, load_base
from kwanzaa_trainer.precision import Device, choose_precision

CPU = Device("CPU")
OLMO = {
    "model_type": "olmo",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 50304,
}


def config(method: str = "lora") -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "model": {"base_model_id": "example/tiny"},
            "data": {"train_file": "train.jsonl"},
            "adapter": {"method": method, "lora": {"r": 4, "dropout": 0.0}},
            "training": {"warmup_ratio": 0.0, "optim": "adamw_torch"},
        }
    )


@pytest.mark.parametrize(("card", "capability"), [("Tesla T4", (7, 5)), ("Tesla V100", (7, 0))])
def test_such_a_card_takes_the_reference_path_and_its_rungs_and_says_why(
    card: str, capability: tuple[int, int]
) -> None:
    device = Device(card, capability)
    precision = choose_precision("bf16", device)
    assert precision.name == precision.autocast == "fp16"
    why = _reason_against(config("qlora"), OLMO, precision, device)
    assert why == "it computes in fp16, with loss scaling"
    case = Case(config("qlora"), OLMO, precision.name, why)
    assert not case.is_fast
    assert {rung.recompute_every for rung in ladder(case)} == {0, 1}
    assert min(rung.needs_gib for rung in ladder(case)) < 14.5, "it fits a T4"


@pytest.fixture
def learner(base: Path, torch: Any, monkeypatch: pytest.MonkeyPatch) -> Learner:
    """The tiny base, learning under a loss scale: all of the path but the half-precision kernels.

    accelerate refuses fp16 without a GPU, so it is told afterwards.
    """
    from accelerate.optimizer import AcceleratedOptimizer

    precision = choose_precision("fp16", Device("Tesla T4", (7, 5)))
    torch.manual_seed(3)
    model = attach_adapter(load_base(config(), Base(str(base)), precision, CPU), config())
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    trained = {p.dtype for p in model.parameters() if p.requires_grad}
    assert (frozen, trained) == ({torch.float16}, {torch.float32})
    made = make_learner(model.float(), config(), 10, choose_precision("no", CPU), CPU)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    scaler.scale(torch.ones(()))  # only then it has a scale
    made.accelerator.scaler = scaler
    made.accelerator.native_amp = True
    monkeypatch.setattr(made.accelerator.state, "_mixed_precision", "fp16")
    optimizer = AcceleratedOptimizer(
        made.optimizer.optimizer, device_placement=False, scaler=scaler
    )
    made.accelerator._optimizers = [optimizer]  # where it looks for what to unscale
    return replace(made, optimizer=optimizer)


def test_a_step_that_overflows_is_skipped_and_the_next_one_scales_lower(
    learner: Learner, samples: Callable[..., Any], torch: Any
) -> None:
    batches = [collate(samples([40, 30]), [(0,), (1,)], 0)]
    before = {name: p.detach().clone() for name, p in learner.parameters.items()}
    learner.accelerator.scaler.update(torch.tensor(float(2.0**127)))
    first_lr = learner.scheduler.get_last_lr()
    result = take_step(learner, batches)
    assert result.loss > 0, "the loss itself is not scaled"
    assert all((p == before[name]).all() for name, p in learner.parameters.items())
    assert learner.scheduler.get_last_lr() == first_lr
    assert learner.accelerator.scaler.get_scale() == 2.0**126
    learner.accelerator.scaler.update(torch.tensor(1024.0))
    norm = take_step(learner, batches).grad_norm
    assert norm < 1024, "gradients are unscaled before they are measured and clipped"
    assert any((p != before[name]).any() for name, p in learner.parameters.items())
    assert learner.accelerator.scaler.get_scale() == 1024.0


def test_any_bit_of_a_quantised_weight_and_of_its_constants_is_seen_by_the_checksum(
    base: Path, torch: Any
) -> None:
    model = load_base(config("qlora"), Base(str(base)), choose_precision("no", CPU), CPU)
    model = attach_adapter(model, config("qlora"))
    whole = base_checksum(model)
    quantised = next(p for p in model.parameters() if getattr(p, "quant_state", None) is not None)
    state = quantised.quant_state
    for tensor in (quantised.data, state.absmax, state.state2.absmax, state.code):
        raw = tensor.reshape(-1).view(torch.uint8)
        raw[3] ^= 16
        assert base_checksum(model) != whole
        raw[3] ^= 16
    assert base_checksum(model) == whole
