"""Several GPUs of one machine: how much faster, in how much memory, and is it the same run?

    python bench/gpu_team.py --out DIR [--cells one two pieces runs] [--limit 480]

one      a step on one card, by both paths: what the others are held against
two      the same step shared by two cards that hold the whole base each
pieces   the same step with the base's 4-bit weights spread over two cards (FSDP)
runs     whole runs of the trainer: two cards' checkpoints resumed on one, and a process killed

Results are added to DIR/results.jsonl as they come. Without GPUs it rehearses on a tiny model.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_fast import AS_THE_TRAINER, Notebook

LIMITS = {"one": 110, "two": 90, "pieces": 130, "runs": 190}
"""The cells in their order, with the seconds that each may take."""
PROCESSES = {"one": 0, "two": 2, "pieces": 2, "runs": 0}
"""How many torchrun starts; 0: none, the cell is one process, and may start its own."""
RUNGS = {
    "nf4, nothing recomputed, 1 row": (True, 0, 1),
    "bf16, nothing recomputed, 4 rows": (False, 0, 4),
}


def main() -> int:
    """Runs the cells, or one process of one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    parser.add_argument("--limit", type=float, default=480.0, help="seconds for all of it")
    parser.add_argument("--cell", choices=list(LIMITS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.cell:
        _work(options.cell, Notebook(options.out, options.cell))
        return 0
    started = time.monotonic()
    for cell in options.cells:
        left = options.limit - (time.monotonic() - started)
        if left < 20:
            print(f"{cell}: no time left", flush=True)
            continue
        _start(options.out, cell, min(LIMITS[cell], left))
    _compare(Notebook(options.out, "compared"), options.out)
    return 0


def _start(out: Path, cell: str, limit_s: float) -> None:
    """One cell in as many processes as it takes, under its time limit."""
    command = [sys.executable]
    if PROCESSES[cell]:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(PROCESSES[cell])]
    command += [__file__, "--out", str(out), "--cell", cell]
    environment = {**AS_THE_TRAINER, **os.environ}
    started = time.monotonic()
    with (out / f"{cell}.log").open("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = -1
        _end(process)
        log.seek(0)
        printed = log.read()
    verdict = {0: "ran", -1: "ran into its limit"}.get(code, f"failed with {code}")
    print(f"{cell}: {verdict}, {time.monotonic() - started:.0f} s", flush=True)
    if code:
        print(printed[-3000:], flush=True)


def _end(process: "subprocess.Popen[Any]") -> None:
    """Ends a cell's process; torchrun, which keeps its own in sessions of their own, ends them."""
    process.terminate()
    try:
        process.wait(40)  # it gives them 30 seconds
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _work(cell: str, book: Notebook) -> None:
    """One process of a cell. It sees one card alone, as the trainer's do."""
    if cell == "runs":
        import gpu_team_runs

        gpu_team_runs.whole_runs(book)
        return
    from kwanzaa_trainer.launching import see_one_gpu
    from kwanzaa_trainer.team import Team

    see_one_gpu(os.environ)
    team = Team.from_environment()
    team.meet()
    if cell == "pieces":
        _in_pieces(book, team)
    else:
        _whole(book, team)
    team.part()


def _whole(book: Notebook, team: Any) -> None:
    """Steps on cards that hold the whole base each: the fast path, and alone the other one."""
    import gpu_model as g
    import torch

    data = g.full_rows(64, seed=1)
    if team.leads:
        device = "CPU rehearsal" if g.SMALL else torch.cuda.get_device_name(0)
        book.note("machine", device=device, torch=torch.__version__, cards=team.size)
    for name, (quantised, every, rows) in RUNGS.items():
        with book.attempt(name):
            config = g.config_of(quantised=quantised)
            model = g.adapted(g.make_base(quantised=quantised), config)
            if team.size == 1 and quantised:
                plain = g.learner_of(model, config, fast=False)
                _note(book, team, "reference, nf4", g.steps(plain, data, rows=1, timed=1))
                model = g.adapted(g.make_base(quantised=quantised), config)
            learner = g.learner_of(model, config, fast=True, team=team)
            learner.fast.recompute_every = every
            _note(book, team, name, g.steps(learner, data, rows=rows, timed=4))
            del model, learner
            g.settle()


def _in_pieces(book: Notebook, team: Any) -> None:
    """Steps on cards that hold a piece of every block each."""
    import gpu_model as g

    from kwanzaa_trainer.precision import choose_precision, find_device
    from kwanzaa_trainer.shards import quantise, shard_base

    data, config, device = g.full_rows(64, seed=1), g.config_of(), find_device()
    for stored_as in ("float32", "bfloat16"):
        with book.attempt(f"gathered as {stored_as}"):
            differ = _gathered_differs_by(device, team, stored_as)
            book.note(f"gathered as {stored_as}", rank=team.rank, **differ)
    for name, rows in (("reference, nf4", 1), ("reference, nf4, 4 rows", 4)):
        with book.attempt(name):
            base = g.make_base(quantised=False, keep_on="cpu")
            quantise(base, config, choose_precision("bf16", device), device)
            model = g.adapted(base, config)
            shard_base(model, device, team.size)
            g.settle()
            loaded = g.memory_now()
            learner = g.learner_of(model, config, fast=False, team=team, in_step=True)
            measured = g.steps(learner, data, rows=rows, timed=2)
            _note(book, team, name, {**measured, "allocated_when_loaded": loaded})
            del base, model, learner
            g.settle()


def _gathered_differs_by(device: Any, team: Any, stored_as: str) -> dict[str, int]:
    """Of matrices in 4 bits that are gathered from two cards: the bytes, and how many are wrong."""
    import torch
    from bitsandbytes.functional import quantize_4bit
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = device.torch_device
    torch.manual_seed(3)
    drawn = torch.randn(1024, 1024, device=place)
    packed = quantize_4bit(drawn, quant_type="nf4", quant_storage=getattr(torch, stored_as))[0]
    holder = torch.nn.ParameterList(
        torch.nn.Parameter(packed.clone(), requires_grad=False) for _ in range(2)
    )
    fully_shard(holder, mesh=init_device_mesh(place.type, (team.size,)))
    holder.unshard()
    whole = torch.cat([parameter.data.view(torch.uint8) for parameter in holder])
    packed = torch.cat([packed, packed])
    return {"bytes": whole.numel(), "wrong": int((whole != packed.view(torch.uint8)).sum())}


def _note(book: Notebook, team: Any, name: str, measured: dict[str, Any]) -> None:
    """The leader's figures; of the others only the memory of their card."""
    if team.leads:
        book.note(name, rank=0, **measured)
    else:
        memory = {k: v for k, v in measured.items() if k.endswith("gib")}
        book.note(f"{name}: another card", rank=team.rank, **memory)


def _compare(book: Notebook, out: Path) -> None:
    """Two cards beside one: how much faster, and by what the first steps differ."""
    path = out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    by = {(row["cell"], row["name"]): row for row in rows if "by_step" in row}
    for (cell, name), row in by.items():
        one = by.get(("one", name.removesuffix(", 4 rows") if cell == "pieces" else name))
        if cell == "one" or one is None:
            continue
        pairs = list(zip(row["by_step"], one["by_step"], strict=False))
        book.note(
            f"{cell}: {name}",
            tok_s=row["tok_s"],
            one_card_tok_s=one["tok_s"],
            kept_of_each_card=round(row["tok_s"] / one["tok_s"] / PROCESSES[cell], 4),
            loss_differs_by=[abs(a[0] / b[0] - 1) for a, b in pairs],
            grad_norm_differs_by=[abs(a[1] / b[1] - 1) for a, b in pairs],
        )


if __name__ == "__main__":
    sys.exit(main())
