"""The planner under the limits of smaller cards, two paths on a task, and a run short of memory."""

import json
import random
from pathlib import Path
from typing import Any

import gpu_model as g
import torch

from kwanzaa_compute.market.sizing import CUDA_CONTEXT_GIB
from kwanzaa_trainer.memory import Case, choose

CARDS = {"12 GB": 11.72, "16 GB": 15.7, "24 GB": 23.52, "40 GB": 39.38, "80 GB": 79.15}
"""What CUDA reports to a program on an RTX 4070 Ti, a 4080, a 4090, an A100-40GB, an A100-80GB."""
OLMO = {
    "model_type": "olmo",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 50304,
}


def caps(book: Any) -> None:
    """The rung that the planner takes for each card runs within that card's memory."""
    data = g.full_rows(32, seed=1)
    case = Case(g.config_of(), OLMO, "bf16", "")
    chosen = {card: choose(case, gib) for card, gib in CARDS.items()}
    for quantised in (True, False):
        model = g.adapted(g.make_base(quantised=quantised), g.config_of())
        learner = g.learner_of(model, g.config_of(), fast=True)
        for card, choice in chosen.items():
            footing = choice.footing
            if footing.quantised is not quantised:
                continue
            with book.attempt(card):
                _limit(CARDS[card])
                learner.fast.close()
                learner.fast.recompute_every = footing.recompute_every
                measured = g.steps(learner, data, rows=footing.rows, timed=1)
                book.note(
                    card, rung=footing.name, needs_gib=round(footing.needs_gib, 2), **measured
                )
        _limit(None)
        del model, learner
        g.settle()


def _limit(gib: float | None) -> None:
    if g.SMALL:
        return
    total = torch.cuda.get_device_properties(0).total_memory / g.GIB
    share = 1.0 if gib is None else (gib - CUDA_CONTEXT_GIB) / total
    torch.cuda.set_per_process_memory_fraction(share)


def learnable_task(book: Any) -> None:
    """200 steps of a task that can be learnt, by both paths from the same start; 6 layers.

    The reference path runs twice: what it differs by from itself, another path may differ by too.
    """
    curves = {
        name: _curve(book, name, fast=name == "fast", steps=4 if g.SMALL else 200)
        for name in ("reference", "fast", "reference again")
    }
    for name in ("fast", "reference again"):
        _note_gap(book, "reference", name, curves)


def half_precision(book: Any) -> None:
    """40 steps by the reference path in fp16 with loss scaling, as on a T4 or V100, and in bf16."""
    steps = 4 if g.SMALL else 40
    curves = {
        name: _curve(book, name, fast=False, steps=steps, layers=3, precision=name)
        for name in ("bf16", "fp16")
    }
    _note_gap(book, "bf16", "fp16", curves)


def _note_gap(book: Any, ours: str, theirs: str, curves: dict[str, list[float]]) -> None:
    gaps = [abs(a - b) for a, b in zip(curves[ours], curves[theirs], strict=True)]
    book.note(
        f"gap of {ours} to {theirs}",
        largest=max(gaps),
        at=gaps.index(max(gaps)),
        mean=sum(gaps) / len(gaps),
        mean_of_last_quarter=sum(gaps[-len(gaps) // 4 :]) / -(-len(gaps) // 4),
    )


def _curve(
    book: Any, name: str, *, fast: bool, steps: int, layers: int = 6, precision: str = "bf16"
) -> list[float]:
    """The losses of a run from one fixed start over one fixed stream of rows."""
    from accelerate.state import AcceleratorState

    from kwanzaa_trainer.batches import collate
    from kwanzaa_trainer.learner import take_step

    AcceleratorState._reset_state()  # noqa: SLF001 -- one process, several precisions
    config = g.config_of(precision=precision)
    # A fourth of the words is noise, so the loss has a floor: with a task that can be learnt
    # whole, gradients and with them Adam's denominators vanish, and every path spikes at random.
    changes = {"learning_rate": 1e-4, "optim": "adamw_torch", "lr_scheduler_type": "cosine"}
    training = config.training.model_copy(update=changes)
    config = config.model_copy(update={"training": training})
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    base = g.make_base(quantised=True, layers=2 if g.SMALL else layers, kind=kind)
    learner = g.learner_of(g.adapted(base, config), config, fast=fast, total_steps=steps)
    draw = random.Random(3)  # noqa: S311 -- tokens, not keys
    words = [draw.randrange(2, g.WORDS) for _ in range(64)]
    order = list(range(64))
    draw.shuffle(order)
    curve, skipped = [], 0
    for number in range(steps):
        batch = collate([_walk(draw, words, order, number)], [(0,)], 1, length=g.ROW)
        curve.append(take_step(learner, [batch]).loss)
        skipped += learner.accelerator.optimizer_step_was_skipped
    shown = [round(x, 4) for x in curve[::10]]
    book.note(f"curve {name}", losses=shown, last=curve[-1], skipped_by_scaling=skipped)
    del base, learner
    g.settle()
    return curve


def _walk(draw: random.Random, words: list[int], order: list[int], number: int) -> Any:
    """A row of words, each decided by the one before it, or, one in four, by chance."""
    from array import array

    from kwanzaa_trainer.data import IGNORED, Sample

    at, ids = draw.randrange(64), array("i")
    for _ in range(g.ROW):
        ids.append(words[at])
        at = order[at] if draw.random() < 0.75 else draw.randrange(64)
    return Sample(number, ids, array("i", [IGNORED, *ids[1:]]))


def forced_short_of_memory(book: Any) -> None:
    """A whole run of the trainer on a 24 GB card that has lost 8 GiB to a stranger at step 3."""
    from gpu_reference import make_base

    from kwanzaa_compute.clock import Clock
    from kwanzaa_compute.store import RunFolder, open_store
    from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, TRAIN_DATA
    from kwanzaa_trainer import loop
    from kwanzaa_trainer.attempt import run_attempt
    from kwanzaa_trainer.settings import Settings
    from kwanzaa_trainer.stopping import Stop

    work = Path("/tmp/kwanzaa-bench")  # noqa: S108 -- a machine of its own, gone afterwards
    make_base(work / "base")
    book.note("base on disk")
    store = open_store((work / "run").as_uri())
    draw = random.Random(0)  # noqa: S311 -- words, not keys
    rows = (
        json.dumps({"text": "".join(draw.choices("abcdefgh ", k=g.ROW - 1))}) + "\n"
        for _ in range(64)
    )
    store.put(TRAIN_DATA, "".join(rows).encode())
    raw = json.loads(g.config_of(dropout=0.05).to_json())
    raw["training"]["max_steps"] = 6
    raw["run"]["logging_steps"] = 1
    raw["evaluation"]["strategy"] = "no"
    raw["checkpointing"]["save_strategy"] = "no"
    raw["checkpointing"]["verify_base_weights_unchanged"] = False
    raw["monitoring"] = {"tensorboard": {"enabled": False}}
    store.put(CONFIG, json.dumps(raw).encode())
    target = work / "run" / BASE_MODEL
    target.mkdir(parents=True)
    for file in (work / "base").iterdir():
        (target / file.name).hardlink_to(file)
    ballast, take_step = [], loop.take_step

    def with_a_stranger(learner: Any, batches: Any) -> Any:
        if learner.scheduler.last_epoch == 2 and not ballast:
            learner.fast.close()
            size = int(8 * g.GIB)
            ballast.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        return take_step(learner, batches)

    loop.take_step = with_a_stranger
    settings = Settings(heartbeat_s=0.0, gpu_gib=CARDS["24 GB"])
    code = run_attempt(store, settings, Clock(), Stop())
    folder = RunFolder(store)
    log = [json.loads(line) for line in store.get("attempts/1/log.jsonl").splitlines()]
    told = {"memory", "path", "short_of_memory", "ended"}
    done, failure = folder.done(), folder.failure(1)
    book.note(
        "a run short of memory at step 3",
        code=code,
        said=[row["message"] for row in log if row["event"] in told],
        steps=[
            [row["step"], row["loss"], round(row["tokens_per_second"])] for row in folder.metrics()
        ],
        failure=failure and failure.message,
        summary=done and {k: v for k, v in done.summary.items() if k != "sample"},
    )
