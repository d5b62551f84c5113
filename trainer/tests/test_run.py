"""Whole runs on a tiny base: what is in the store when they end."""

import hashlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store import RunFolder
from kwanzaa_compute.store.objects import relative_paths

STEPS = 24


def test_a_run_ends_with_everything_it_promised(reference: Any) -> None:
    done = reference.done()
    assert done.step == STEPS
    stored = {p for _, p in relative_paths(reference.root / "adapter")}
    assert stored == set(done.files)
    assert stored >= {
        "adapter_model.safetensors",
        "adapter_config.json",
        "training_config.yaml",
        "training_metrics.json",
        "checksums.json",
        "README.md",
        "tokenizer.json",
    }
    for name, digest in done.files.items():
        assert hashlib.sha256(reference.store.get(f"adapter/{name}")).hexdigest() == digest
    checksums = json.loads(reference.store.get("adapter/checksums.json"))
    assert checksums == {k: v for k, v in done.files.items() if k != "checksums.json"}


def test_training_lowers_the_loss_and_every_figure_is_told(reference: Any) -> None:
    summary = reference.done().summary
    assert summary["eval_loss_last"] < summary["eval_loss_first"]
    assert summary["eval_loss_best"] <= summary["eval_loss_last"]
    assert summary["perplexity"] == pytest.approx(math.exp(summary["eval_loss_best"]))
    assert summary["precision"] == "fp32"
    assert "without a GPU" in summary["precision_reason"]
    assert summary["sample"]["question"].startswith("What is")
    assert summary["sample"]["base"] != summary["sample"]["adapter"]
    assert summary["steps"] == STEPS
    assert summary["tokens"] > 0 < summary["train_s"]
    assert len(summary["base_sha256"]) == 64


def test_metrics_hold_every_step_and_the_evaluation_before_the_first(reference: Any) -> None:
    rows = reference.folder.metrics()
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(1, STEPS + 1))
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [0, 6, 12, 18, 24]
    assert all(float.fromhex(r["loss_hex"]) == r["loss"] for r in rows)
    keys = {"lr", "grad_norm", "tokens", "tokens_per_second", "perplexity", "epoch"}
    assert all(keys <= r.keys() for r in rows if r["kind"] == "train")


def test_the_last_heartbeat_tells_where_the_run_ended(reference: Any) -> None:
    beat = reference.folder.heartbeat(1)
    assert (beat.step, beat.total_steps, beat.attempt) == (STEPS, STEPS, 1)
    assert beat.checkpoint == f"ckpt-{STEPS}-1"
    assert beat.save_s > 0
    assert beat.eval_loss == reference.done().summary["eval_loss_last"]


def test_the_log_says_the_precision_with_its_reason(reference: Any) -> None:
    (event,) = reference.events("precision")
    assert "fp32" in event["message"]
    assert "without a GPU" in event["message"]
    assert event["time"].endswith("Z")


def test_a_run_that_is_done_is_left_alone(reference: Any, tmp_path: Path) -> None:
    run = reference.copy(tmp_path / "again")
    before = {path: path.read_bytes() for path, _ in relative_paths(run.root / "adapter")}
    assert run.train(attempt=2) == 0
    assert {path: path.read_bytes() for path, _ in relative_paths(run.root / "adapter")} == before
    assert run.done().attempt == 1


def test_the_adapter_loads_with_plain_peft(reference: Any, base: Path, torch: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = reference.root / "adapter"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(model, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "example/tiny-olmo"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    adapted = {n: p for n, p in loaded.named_parameters() if "lora_B" in n}
    assert len(adapted) == 14
    assert all(p.abs().sum() > 0 for p in adapted.values())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Nia?"}], tokenize=False)
    assert text == "<|user|>\nNia?\n"


def test_the_card_says_base_data_figures_and_how_to_load(reference: Any) -> None:
    card = reference.store.get("adapter/README.md").decode()
    assert card.startswith("---\nbase_model: example/tiny-olmo\n")
    assert reference.done().summary["train_data_sha256"] in card
    assert "PeftModel.from_pretrained" in card
    assert "eval loss before training" in card


def test_two_runs_from_one_seed_are_bit_identical(make_run: Any) -> None:
    runs = [make_run(run={"seed": 3}, training={"max_steps": 4}) for _ in range(2)]
    for run in runs:
        assert run.train() == 0, run.complaints()
    assert runs[0].adapter() == runs[1].adapter()
    assert runs[0].losses() == runs[1].losses()
    other = make_run(run={"seed": 4}, training={"max_steps": 4})
    assert other.train() == 0
    assert other.adapter() != runs[0].adapter()


def test_a_packed_run_with_checkpointed_gradients_and_an_8_bit_optimizer_trains(
    make_run: Any,
) -> None:
    run = make_run(
        run={"report_to": ["tensorboard"]},
        data={"packing": True},
        training={
            "max_steps": None,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 2,
            "optim": "paged_adamw_8bit",
            "gradient_checkpointing": True,
        },
    )
    assert run.train() == 0, run.complaints()
    summary = run.done().summary
    assert summary["steps"] < 2 * 22 / 2, "packing must make fewer rows"
    assert summary["eval_loss_last"] < summary["eval_loss_first"]
    assert any("no GPU memory to page" in e["message"] for e in run.events("not_applied"))
    charts = [o.path for o in run.store.list("attempts/1/tensorboard")]
    assert any("tfevents" in path for path in charts)


def test_early_stopping_ends_the_run_and_the_best_adapter_is_handed_over(make_run: Any) -> None:
    run = make_run(
        training={
            "max_steps": 40,
            "learning_rate": 0.05,
            "early_stopping": {"enabled": True, "patience": 2, "threshold": 0.0},
        },
        evaluation={"steps": 2},
        checkpointing={"save_steps": 2, "save_total_limit": 1},
    )
    assert run.train() == 0, run.complaints()
    summary = run.done().summary
    evals = {r["step"]: r["loss"] for r in run.folder.metrics() if r["kind"] == "eval"}
    best = min((loss, step) for step, loss in evals.items() if step > 0)
    assert summary["stopped_early"]
    assert summary["steps"] < 40
    assert (summary["eval_loss_best"], summary["adapter_step"]) == best
    assert summary["adapter_step"] < summary["steps"], "the case must tell best from last"
    assert run.checkpoints() == [f"ckpt-{summary['steps']}-1", f"ckpt-{best[1]}-1"]
    assert f"ckpt-{best[1]}-1" in run.events("best")[0]["message"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"adapter": {"lora": {"target_modules": ["q_proj", "wqkv"]}}},
            "has no module called wqkv; its linear modules are down_proj, gate_proj, k_proj",
        ),
        ({"train": b'{"messages": []}\n'}, "train.jsonl:1: 'messages' must be a list"),
        ({"data": {"max_seq_length": 24}}, "fit into data.max_seq_length = 24"),
        ({"training": {"learning_rate": 0.9}, "adapter": {"lora": {"alpha": 60000}}}, "diverged"),
    ],
    ids=["modules", "data", "length", "divergence"],
)
def test_what_another_machine_cannot_mend_is_not_retried(
    make_run: Any, changes: dict[str, Any], said: str
) -> None:
    run = make_run(**changes)
    assert run.train() == 1
    failure = run.folder.failure(1)
    assert said in failure.message
    assert failure.mend
    assert not failure.retryable
    assert run.folder.done() is None


def test_a_machine_that_may_be_taken_away_saves_as_often_as_pays(make_run: Any) -> None:
    seconds = itertools.count(0.0, 30.0)  # every look at this clock finds it half a minute later
    clock = Clock(monotonic=lambda: next(seconds))
    saves = {}
    for rate in (0.0, 0.5, 20.0):
        run = make_run(
            training={"max_steps": 12},
            evaluation={"steps": 100},
            checkpointing={"save_steps": 1000},
        )
        assert run.train(clock=clock, interruptions_per_h=rate) == 0, run.complaints()
        saves[rate] = len(run.events("checkpoint"))
    assert saves[0.0] == 1
    assert saves[0.0] < saves[0.5] < saves[20.0]


def test_a_heartbeat_promises_the_next_one_while_steps_are_made(make_run: Any) -> None:
    run = make_run(training={"max_steps": 3}, evaluation={"steps": 100})
    beats = []
    put = RunFolder.put_heartbeat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            RunFolder, "put_heartbeat", lambda self, beat: (beats.append(beat), put(self, beat))
        )
        assert run.train() == 0, run.complaints()
    promised = {beat.phase for beat in beats if beat.interval_s is not None}
    assert promised == {"train"}
    assert all(beat.interval_s > 0 for beat in beats if beat.interval_s is not None)
