"""A run that diverges ends clearly, is not tried again, and leaves no poisoned checkpoint."""

import random
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import RunError
from kwanzaa_trainer import checkpoint, loop
from kwanzaa_trainer.guard import RUNAWAY_STEPS, require_loss_scale
from kwanzaa_trainer.learner import make_learner
from kwanzaa_trainer.model import Base, attach_adapter, load_base
from kwanzaa_trainer.packing import row_order
from kwanzaa_trainer.precision import Device, choose_precision
from kwanzaa_trainer.progress import Progress

CPU = Device("cpu")


@pytest.fixture(scope="module")
def base_that_says_a(
    base: Path, tokenizer: Any, torch: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A base that expects the letter a everywhere: everything else comes as a shock to it."""
    from transformers import OlmoForCausalLM

    folder = tmp_path_factory.mktemp("base-that-says-a")
    model = OlmoForCausalLM.from_pretrained(base)
    (letter,) = tokenizer("a")["input_ids"]
    direction = torch.tensor([1.0, -1.0]).repeat(32)
    with torch.no_grad():
        model.model.embed_tokens.weight += direction
        model.lm_head.weight[letter] += 0.2 * direction
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def says(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]}


def test_a_loss_that_runs_away_ends_the_run_and_its_newest_checkpoint_is_from_before(
    make_run: Any, base_that_says_a: Path
) -> None:
    draw = random.Random(1)
    easy = set(row_order(60, seed=7, epoch=0)[:8])  # the first two steps
    letters = ["".join(draw.choices("bcdefghijklmnop", k=120)) for _ in range(60)]
    rows = [says("a" * 200 if n in easy else letters[n]) for n in range(60)]
    run = make_run(
        model_folder=base_that_says_a,
        train=rows,
        evaluation={"strategy": "no"},
        checkpointing={"save_steps": 1},
        training={"max_steps": 15, "learning_rate": 1e-4},
    )
    assert run.train() == 1
    failure = run.folder.failure(1)
    assert f"{RUNAWAY_STEPS} steps in a row" in failure.message
    assert not failure.retryable
    assert "learning_rate" in failure.mend
    assert run.checkpoints() == ["ckpt-2-1", "ckpt-1-1"]
    assert run.folder.done() is None


def test_a_loss_on_the_evaluation_data_that_is_no_number_ends_the_run(
    make_run: Any, base: Path, tokenizer: Any, torch: Any, tmp_path: Path
) -> None:
    from transformers import OlmoForCausalLM

    model = OlmoForCausalLM.from_pretrained(base)
    (token,) = tokenizer("~")["input_ids"]
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = torch.nan
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    held_out = [
        {"messages": [{"role": "user", "content": "~"}, {"role": "assistant", "content": "nia"}]}
    ]
    run = make_run(model_folder=tmp_path, held_out=held_out)
    assert run.train() == 1
    assert "diverged: eval loss nan" in run.folder.failure(1).message
    assert not run.folder.failure(1).retryable
    assert run.checkpoints() == []


def test_an_adapter_that_holds_no_numbers_is_never_written(
    base: Path, torch: Any, tmp_path: Path
) -> None:
    config = TrainingConfig.model_validate(
        {
            "model": {"base_model_id": "a"},
            "data": {"train_file": "t"},
            "adapter": {"method": "lora"},
        }
    )
    precision = choose_precision("no", CPU)
    model = attach_adapter(load_base(config, Base(str(base)), precision, CPU), config)
    learner = make_learner(model, config, 10, precision, CPU)
    name, poisoned = next(iter(learner.parameters.items()))
    with torch.no_grad():
        poisoned[0, 0] = torch.inf
    with pytest.raises(RunError, match="diverged") as caught:
        checkpoint.write(tmp_path / "checkpoint", learner, Progress(), {})
    assert name in caught.value.message
    assert not (tmp_path / "checkpoint").exists()


def test_memory_that_goes_bad_under_the_base_costs_only_the_steps_since_the_last_checkpoint(
    make_run: Any, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = loop.take_step

    def flips_a_bit(learner: Any, batches: Any) -> Any:
        result = take_step(learner, batches)
        if learner.scheduler.last_epoch == 3:
            weight = next(p for p in learner.model.parameters() if not p.requires_grad)
            weight.data.view(torch.uint8).reshape(-1)[5] ^= 1
        return result

    run = make_run(training={"max_steps": 4}, checkpointing={"save_steps": 2})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", flips_a_bit)
        assert run.train() == 1
    failure = run.folder.failure(1)
    assert "changed in memory by step 4" in failure.message
    assert failure.retryable
    assert failure.bad_machine
    assert run.checkpoints() == ["ckpt-2-1"]
    assert run.train(attempt=2) == 0, run.complaints()


def test_a_few_steps_astray_are_forgiven() -> None:
    progress = Progress()
    for loss in [2.0, 6.0, 6.0, 2.0]:
        progress.note_loss(loss)
    assert progress.steps_astray == 0
    progress.note_loss(5.1)
    assert progress.steps_astray == 1


def test_a_loss_scale_that_has_vanished_is_a_divergence() -> None:
    require_loss_scale(1.0)
    with pytest.raises(RunError, match="overflows"):
        require_loss_scale(2.0**-20)
