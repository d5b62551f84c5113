"""Rungs of the memory ladder: time, memory beside the prediction, and where a step's time goes."""

import time
from typing import Any

import gpu_model as g
import torch


def main_rung(book: Any) -> None:
    """The founding document's own: 4-bit base, all blocks recomputed, one row at a time."""
    learner, data = _learner(book, quantised=True), g.full_rows(64, seed=1)
    rung(book, learner, data, quantised=True, every=1, rows=1, timed=3)
    with book.attempt("parts of a step"):
        book.note("parts of a step", **_parts(learner, data))


def repeatable(book: Any) -> None:
    """The same as the trainer does it by default: two runs agree to the bit."""
    learner, data = _learner(book, quantised=True, repeatable=True), g.full_rows(64, seed=1)
    rung(
        book, learner, data, quantised=True, every=1, rows=1, timed=3, suffix=", repeatable, fresh"
    )


def shared_scratch(book: Any) -> None:
    """The same with one buffer for all unpacked matrices."""
    learner, data = _learner(book, quantised=True), g.full_rows(64, seed=1)
    learner.fast.model.scratch.is_shared = True
    rung(book, learner, data, quantised=True, every=1, rows=1, timed=2, suffix=", shared scratch")


def nothing_recomputed(book: Any) -> None:
    """4-bit base, nothing recomputed, one row at a time."""
    learner, data = _learner(book, quantised=True), g.full_rows(64, seed=1)
    rung(book, learner, data, quantised=True, every=0, rows=1, timed=3)


def four_bit(book: Any) -> None:
    """The other 4-bit rungs and packed samples, one after the other in one process."""
    learner, data = _learner(book, quantised=True), g.full_rows(64, seed=1)
    for every, rows in ((1, 4), (2, 1), (4, 1), (0, 4)):
        rung(book, learner, data, quantised=True, every=every, rows=rows, timed=2)
    packed(book, learner, quantised=True, every=1, rows=1)


def sixteen_bit(book: Any) -> None:
    """The 16-bit rungs and packed samples, one after the other in one process."""
    learner, data = _learner(book, quantised=False), g.full_rows(64, seed=1)
    for rows in (8, 4, 1):
        rung(book, learner, data, quantised=False, every=0, rows=rows, timed=4)
    packed(book, learner, quantised=False, every=0, rows=1)
    packed(book, learner, quantised=False, every=0, rows=4)


def exact(book: Any) -> None:
    """What repeatable attention costs, and whether three steps taken twice agree to the bit."""
    data = g.full_rows(48, seed=1)
    config = g.config_of(dropout=0.05)
    for repeatable in (False, True):
        states = []
        name = "repeatable" if repeatable else "not repeatable"
        with book.attempt(name):
            for _ in range(2):
                model = g.adapted(g.make_base(quantised=True, layers=2 if g.SMALL else 8), config)
                learner = g.learner_of(model, config, fast=True, repeatable=repeatable)
                g.steps(learner, data, rows=1, timed=2)
                states.append([p.detach().cpu() for p in learner.parameters.values()])
                del model, learner
                g.settle()
            pairs = list(zip(*states, strict=True))
            book.note(
                f"three steps twice, {name}",
                equal=all(torch.equal(a, b) for a, b in pairs),
                largest_gap=max(float((a - b).abs().max()) for a, b in pairs),
            )
    model = g.adapted(g.make_base(quantised=True), g.config_of())
    learner = g.learner_of(model, g.config_of(), fast=True, repeatable=True)
    learner.fast.complain = lambda text: book.note("complaint", text=text)
    rung(book, learner, data, quantised=True, every=1, rows=1, timed=2, suffix=", repeatable")


def unpacking(book: Any) -> None:
    """The unpacking kernel's tile and warps, in milliseconds for all matrices of one block."""
    from bitsandbytes.functional import quantize_4bit
    from triton.testing import do_bench

    from kwanzaa_trainer.fast import kernels

    shapes = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
    held = []
    for shape in shapes:
        value = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        packed_value, state = quantize_4bit(value, quant_type="nf4", compress_statistics=True)
        held.append((packed_value, state, torch.empty_like(value)))
    tile = kernels.NF4_TILE
    for warps in (2, 4, 8):
        for kernels.NF4_TILE in (16, 32, 64, 128, 256):
            kernels.NF4_WARPS = warps
            took = do_bench(lambda: [kernels.unpack(*each) for each in held], return_mode="median")
            book.note("unpacking", tile=kernels.NF4_TILE, warps=warps, ms=round(took, 4))
    kernels.NF4_TILE = tile


def rung(
    book: Any,
    learner: Any,
    data: Any,
    *,
    quantised: bool,
    every: int,
    rows: int,
    timed: int,
    suffix: str = "",
) -> None:
    """Times one rung and writes it down beside its prediction."""
    recomputed = {0: "none", 1: "all"}.get(every, f"every {every}")
    name = f"{'nf4' if quantised else 'bf16'} {recomputed} x{rows}{suffix}"
    with book.attempt(name):
        learner.fast.close()
        learner.fast.packs = False
        learner.fast.recompute_every = every
        measured = g.steps(learner, data, rows=rows, timed=timed)
        said = g.predicted(quantised=quantised, every=every, rows=rows)
        tflops = measured["tok_s"] * said["model_gflop_per_token"] / 1000
        book.note(name, **measured, **said, model_tflops=round(tflops, 1))


def packed(book: Any, learner: Any, *, quantised: bool, every: int, rows: int) -> None:
    """Times short samples, packed."""
    name = f"packed {'nf4' if quantised else 'bf16'} {'all' if every else 'none'} x{rows}"
    with book.attempt(name):
        data = g.short_samples(500, seed=11)
        filled = sum(len(s.ids) for s in data[0]) / (len(data[1]) * g.ROW)
        learner.fast.close()
        learner.fast.packs = True
        learner.fast.recompute_every = every
        most = max(map(len, data[1]))
        measured = g.steps(learner, data, rows=rows, timed=3)
        book.note(name, fill=round(filled, 4), most_samples_in_a_row=most, **measured)


def _learner(book: Any, *, quantised: bool, repeatable: bool = False) -> Any:
    config = g.config_of(quantised=quantised)
    model = g.adapted(g.make_base(quantised=quantised), config)
    learner = g.learner_of(model, config, fast=True, repeatable=repeatable)
    learner.fast.complain = lambda text: book.note("complaint", text=text)
    book.note("built", **g.memory_now())
    return learner


def _parts(learner: Any, data: Any) -> dict[str, float]:
    """Milliseconds of one warm step's parts, each waited for."""
    from kwanzaa_trainer.batches import collate

    took: dict[str, float] = {}
    clock = [time.perf_counter()]

    def note(name: str) -> None:
        g.sync()
        now = time.perf_counter()
        took[name] = round((now - clock[0]) * 1e3, 2)
        clock[0] = now

    batches = [collate(data[0], [row], 1, length=g.ROW) for row in data[1][: g.ROWS_A_STEP]]
    note("collating")
    learner.fast.begin_step()
    note("taking the adapters")
    losses = [learner.fast.learn(batch, 1e-5) for batch in batches]
    note("forward and backward")
    float(torch.stack(losses).sum())
    learner.accelerator.clip_grad_norm_(list(learner.parameters.values()), 1.0)
    note("clipping")
    learner.optimizer.step()
    note("optimizer")
    learner.optimizer.zero_grad()
    note("forgetting gradients")
    return took
