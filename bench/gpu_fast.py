"""One GPU: how fast is the fast path, in how much memory, and does it compute the same?

    python bench/gpu_fast.py --out DIR [--cells main none sixteen] [--limit 540]

Each cell runs in a process of its own with its own time limit, the most telling first, and adds its
results to DIR/results.jsonl as they come: what is cut off loses only the rest. Without a GPU it
rehearses on a tiny model. `make bench-gpu` runs all of it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMITS = {
    "main": 60,
    "none": 50,
    "sixteen": 110,
    "four": 110,
    "same": 60,
    "kill": 112,
    "learn": 100,
    "exact": 80,
    "repeat": 50,
    "shared": 45,
    "half": 40,
    "unpack": 45,
    "hf": 90,
    "trl": 90,
    "trlpack": 90,
    "unsloth": 200,
    "profile": 90,
    "kernels": 90,
    "caps": 120,
    "trainer": 200,
}
"""The cells in their order, with the seconds that each may take."""


AS_THE_TRAINER = {
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # What the trainer's own entry sets.
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def main() -> int:
    """Runs the cells, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    parser.add_argument("--limit", type=float, default=540.0, help="seconds for all of it")
    parser.add_argument("--cell", choices=list(LIMITS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.cell:
        CELLS[options.cell](Notebook(options.out, options.cell))
        return 0
    started = time.monotonic()
    Notebook(options.out, "machine").note("allocator", **try_allocator())
    for cell in options.cells:
        left = options.limit - (time.monotonic() - started)
        if left < 30:
            print(f"{cell}: no time left", flush=True)
            continue
        run_cell(options.out, cell, min(LIMITS[cell], left))
    print(summary(options.out), flush=True)
    return 0


def try_allocator() -> dict[str, Any]:
    """Whether this driver grows segments; where it does not, the cells go without."""
    code = "import torch; x = torch.ones(1 << 28, device='cuda'); print(float(x.sum()))"
    tried = subprocess.run(
        [sys.executable, "-c", code],
        env={**AS_THE_TRAINER, **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = ""
    said = (tried.stdout + tried.stderr).strip().splitlines()[-1:]
    return {"grows_segments": not tried.returncode, "said": said}


def run_cell(out: Path, cell: str, limit_s: float) -> None:
    """One cell in a process of its own; what it prints is added to DIR/cells.log."""
    started = time.monotonic()
    command = [sys.executable, __file__, "--out", str(out), "--cell", cell]
    environment = {**AS_THE_TRAINER, **os.environ}
    with (out / "cells.log").open("a+") as log:
        log.write(f"\n==== {cell}\n")
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # also whatever it started
            process.wait()
            code = -1
        log.seek(begin)
        printed = log.read()
    took = time.monotonic() - started
    verdict = {0: "ran", -1: "ran into its limit"}.get(code, f"failed with {code}")
    print(f"{cell}: {verdict}, {took:.0f} s", flush=True)
    if code:
        print(printed[-1200:], flush=True)


class Notebook:
    """Where results are written down, one JSON object a line."""

    def __init__(self, out: Path, cell: str) -> None:
        """`out` is the folder of all cells."""
        self.out, self.cell = out, cell
        self.started = time.monotonic()

    def note(self, name: str, **values: Any) -> None:
        """Writes a result down at once."""
        seconds = round(time.monotonic() - self.started, 1)
        row = {"cell": self.cell, "name": name, "at_s": seconds, **values}
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """What fails inside is written down, and the cell goes on."""
        import traceback

        try:
            yield
        except Exception as error:  # noqa: BLE001 -- one measurement must not cost the others
            traceback.print_exc()
            self.note(name, error=f"{type(error).__name__}: {error}"[:400])


def same(book: Notebook) -> None:
    """The machine, and one step by both paths."""
    import gpu_model as g

    _say_machine(book)
    config = g.config_of()
    model = g.adapted(g.make_base(quantised=True), config)
    data = g.full_rows(64, seed=1)
    _compare(book, model, config, data)
    with book.attempt("reference nf4 all x1"):
        plain = g.learner_of(model, config, fast=False)
        book.note("reference nf4 all x1", **g.steps(plain, data, rows=1, timed=1))


def profiled(book: Notebook) -> None:
    """One micro-batch of the main rung by kernel."""
    import gpu_model as g

    config = g.config_of()
    learner = g.learner_of(g.adapted(g.make_base(quantised=True), config), config, fast=True)
    _profile(book, learner, g.full_rows(4, seed=1))


def _say_machine(book: Notebook) -> None:
    import bitsandbytes
    import gpu_model as g
    import peft
    import torch
    import transformers

    book.note(
        "machine",
        device="CPU rehearsal" if g.SMALL else torch.cuda.get_device_name(0),
        torch=torch.__version__,
        transformers=transformers.__version__,
        peft=peft.__version__,
        bitsandbytes=bitsandbytes.__version__,
        bf16_tflops=g.ceiling_tflops(),
    )


def _compare(book: Notebook, model: Any, config: Any, data: Any) -> None:
    """Loss and gradient of the very same step, by both paths."""
    import gpu_model as g
    import torch

    from kwanzaa_trainer.batches import collate
    from kwanzaa_trainer.learner import _loss_and_gradients

    batches = [collate(data[0], [row], 1) for row in data[1][:2]]
    found = {}
    for path in ("reference", "fast"):
        with book.attempt(f"compare {path}"):
            learner = g.learner_of(model, config, fast=path == "fast")
            loss = _loss_and_gradients(learner, batches)
            grads = [p.grad.double().flatten() for p in learner.parameters.values()]
            found[path] = (float(loss), torch.cat(grads).cpu())
            model.zero_grad()
            if learner.fast is not None:
                learner.fast.close()
    if len(found) == 2:
        (loss, grad), (fast_loss, fast_grad) = found["reference"], found["fast"]
        book.note(
            "same as the reference path",
            loss=loss,
            fast_loss=fast_loss,
            grad_norm=float(grad.norm()),
            fast_grad_norm=float(fast_grad.norm()),
            norm_differs_by=float(fast_grad.norm() / grad.norm() - 1),
            direction=float(grad @ fast_grad / grad.norm() / fast_grad.norm()),
        )


def _profile(book: Notebook, learner: Any, data: Any) -> None:
    """One replayed micro-batch by kernel."""
    import gpu_model as g
    import torch
    from torch.profiler import ProfilerActivity, profile

    from kwanzaa_trainer.batches import collate

    batch = collate(data[0], data[1][:1], 1, length=g.ROW)
    learner.fast.close()
    learner.fast.begin_step()
    for _ in range(2):
        learner.fast.learn(batch, 1e-4)
    g.sync()
    kinds = [ProfilerActivity.CPU if g.SMALL else ProfilerActivity.CUDA]
    start = time.perf_counter()
    learner.fast.learn(batch, 1e-4)
    g.sync()
    wall = time.perf_counter() - start
    with profile(activities=kinds) as seen:
        learner.fast.learn(batch, 1e-4)
        g.sync()
    totals: dict[str, list[float]] = {}
    for event in seen.events():
        if g.SMALL or event.device_type == torch.autograd.DeviceType.CUDA:
            entry = totals.setdefault(event.name[:90], [0, 0.0])
            entry[0] += 1
            entry[1] += event.time_range.elapsed_us()
    top = sorted(totals.items(), key=lambda item: -item[1][1])[:40]
    book.note(
        "profile",
        wall_ms=round(wall * 1e3, 2),
        busy_ms=round(sum(v[1] for v in totals.values()) / 1e3, 2),
        kernels=sum(int(v[0]) for v in totals.values()),
        top={name: [int(n), round(us / 1e3, 3)] for name, (n, us) in top},
    )


def kernels(book: Notebook) -> None:
    """The tests of every kernel, compiled."""
    tests = HERE.parent / "trainer/tests"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
        "--rootdir", str(tests), str(tests / "test_fast_kernels.py"),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:])
    book.note("kernels", code=done.returncode, last=done.stdout.strip().splitlines()[-1:])


def summary(out: Path) -> str:
    """One line a result, for people."""
    path = out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    hidden = {"cell", "name", "at_s", "top", "step_s"}
    return "\n".join(
        f"{row['cell']:8} {row['name']:28} "
        + " ".join(f"{k}={v}" for k, v in row.items() if k not in hidden)
        for row in rows
    )


def _elsewhere(module: str, name: str) -> Callable[[Notebook], None]:
    def cell(book: Notebook) -> None:
        import importlib

        getattr(importlib.import_module(module), name)(book)

    return cell


CELLS: dict[str, Callable[[Notebook], None]] = {
    "main": _elsewhere("gpu_rungs", "main_rung"),
    "none": _elsewhere("gpu_rungs", "nothing_recomputed"),
    "sixteen": _elsewhere("gpu_rungs", "sixteen_bit"),
    "four": _elsewhere("gpu_rungs", "four_bit"),
    "same": same,
    "kill": _elsewhere("gpu_kill", "killed_at_random"),
    "learn": _elsewhere("gpu_whole", "learnable_task"),
    "exact": _elsewhere("gpu_rungs", "exact"),
    "repeat": _elsewhere("gpu_rungs", "repeatable"),
    "shared": _elsewhere("gpu_rungs", "shared_scratch"),
    "half": _elsewhere("gpu_whole", "half_precision"),
    "unpack": _elsewhere("gpu_rungs", "unpacking"),
    "hf": _elsewhere("gpu_peers", "transformers_trainer"),
    "trl": _elsewhere("gpu_peers", "trl_trainer"),
    "trlpack": _elsewhere("gpu_peers", "trl_packing"),
    "unsloth": _elsewhere("gpu_unsloth", "unsloth_trainer"),
    "profile": profiled,
    "kernels": kernels,
    "caps": _elsewhere("gpu_whole", "caps"),
    "trainer": _elsewhere("gpu_whole", "forced_short_of_memory"),
}

if __name__ == "__main__":
    sys.exit(main())
