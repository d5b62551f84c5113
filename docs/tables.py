"""Writes the tables of docs/costs.md and docs/sizing.md from the code that plans with them.

    python docs/tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. With `--check` nothing is
written; the exit status is 1 where a page says something else than the code.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kwanzaa_compute.market.gpus import all_gpus
from kwanzaa_compute.market.offers import Offer, Requirements
from kwanzaa_compute.market.plan import Plan, Settings, Task, make_plan
from kwanzaa_compute.market.prices import bundled_offers
from kwanzaa_compute.market.recipe import Recipe
from kwanzaa_compute.market.shapes import ModelShape, find_shape
from kwanzaa_compute.market.sizing import (
    disk_needed,
    ladder,
    least_memory,
    memory_needed,
    recipe_on,
)
from kwanzaa_compute.market.speed import MEASURED_GPU, speed
from kwanzaa_compute.market.terms import TERMS
from kwanzaa_compute.market.workload import Workload, count_tokens_from_characters, workload

HERE = Path(__file__).parent
PAGES = ("costs.md", "sizing.md")
NOW = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
"""The day for which the examples are planned: pages must not change because time passes."""
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a column whose name begins with `>` is aligned to the right."""
    lines = [
        "| " + " | ".join(name.lstrip(">") for name in columns) + " |",
        "|" + "|".join("---:" if name.startswith(">") else "---" for name in columns) + "|",
    ]
    lines.extend(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows
    )
    return "\n".join(lines) + "\n"


def olmo() -> ModelShape:
    """The model of the examples."""
    shape = find_shape("allenai/OLMo-7B-Instruct-hf")
    if shape is None:
        raise LookupError("OLMo-7B has left the table of models")
    return shape


def small_job() -> Workload:
    """The first user's data: 107 chats of 4,930 characters on average, four epochs."""
    tokens = count_tokens_from_characters(107 * 4930, messages=3 * 107).expected
    return workload(
        tokens_per_epoch=tokens,
        samples=107,
        row_tokens=2048,
        rows_per_step=16,
        epochs=4,
        eval_rows=19,
        eval_every_steps=7,
        save_every_steps=7,
    )


def large_job() -> Workload:
    """Twenty million tokens of short samples, once through."""
    return workload(
        tokens_per_epoch=20_000_000,
        samples=60_000,
        row_tokens=2048,
        rows_per_step=16,
        epochs=1,
        eval_rows=200,
        eval_every_steps=200,
        save_every_steps=200,
        save_every_s=600,
    )


def recipe() -> Recipe:
    """The default recipe: path and rung are left to the trainer, and it is repeatable."""
    return Recipe(plans_memory=True, may_be_fast=True, repeatable=True)


def plan_of(job: Workload) -> Plan:
    """The plan of a job on OLMo-7B, from the bundled prices."""
    shape, mine = olmo(), recipe()
    needs = Requirements(least_memory(shape, mine).total_gib, disk_needed(shape, mine).total_gib)
    return make_plan(needs, bundled_offers(), Task(job, shape, mine), Settings(now=NOW))


def job_table(job: Workload) -> str:
    """The five best machines of a job: set-up against speed."""
    rows = [
        (
            c.offer.provider,
            f"{_count(c.offer)}{c.offer.gpu.name}{' spot' if c.offer.spot else ''}",
            f"${c.offer.usd_per_hour}",
            f"{c.set_up_s / 60:.0f} min",
            f"{c.training_s / 3600:.2f} h",
            f"{c.set_up_share:.0%}",
            f"{c.speed.expected:,.0f}",
            f"${c.usd.expected:.2f}",
            f"${c.usd.p95:.2f}",
        )
        for c in plan_of(job).candidates[:5]
    ]
    columns = ("provider", "GPU", ">$/h", ">set-up", ">training", ">set-up's share", ">tokens/s")
    return table((*columns, ">expected", ">1 in 20"), rows)


def _count(offer: Offer) -> str:
    return f"{offer.gpu_count}x " if offer.gpu_count > 1 else ""


def gpu_table() -> str:
    """Every GPU that can be planned with."""
    rows = [
        (
            gpu.name,
            f"{gpu.vram_gib:.2f}",
            ".".join(map(str, gpu.compute_capability)),
            "yes" if gpu.bf16 else "no",
            f"{gpu.tflops_bf16:g}" if gpu.bf16 else "-",
            f"{gpu.tflops_fp16:g}",
            f"{gpu.bandwidth_tb_s:g}",
            gpu.arch,
        )
        for gpu in all_gpus()
    ]
    columns = ("GPU", ">GiB", "capability", "bf16", ">TFLOP/s bf16", ">TFLOP/s fp16", ">TB/s")
    return table((*columns, "host"), rows)


def terms_table() -> str:
    """How each provider bills and starts."""
    rows = [
        (
            name,
            f"{terms.queue_s:g}",
            f"{terms.boot_s + terms.image_s + terms.install_s:g}",
            f"{terms.download_mb_s:g}",
            f"{terms.interruptions_per_h:g}",
            f"${terms.usd_per_gb_out}",
            terms.source,
        )
        for name, terms in TERMS.items()
    ]
    columns = ("provider", ">waiting, s", ">start, s", ">download, MB/s", ">interruptions/h")
    return table((*columns, ">$/GB out", "source"), rows)


def memory_table() -> str:
    """The memory of OLMo-7B on the most frugal rung, line by line."""
    sizing = least_memory(olmo(), recipe())
    rows = [(line.what, f"{line.gib:.3f}", line.why) for line in sizing.lines]
    return table(("part", ">GiB", "how"), [*rows, ("in all", f"{sizing.total_gib:.3f}", "")])


def ladder_table() -> str:
    """The ladder for OLMo-7B: what each rung takes."""
    gpu, shape = all_gpus(), olmo()
    h200 = next(each for each in gpu if each.name == MEASURED_GPU)
    rungs = ladder(shape, recipe(), fast=True)
    rows = [
        (number, rung.name, f"{sizing.total_gib:.1f}", f"{speed(shape, on, h200).expected:,.0f}")
        for number, (rung, on, sizing) in enumerate(rungs, start=1)
    ]
    columns = (">rung", "base, recomputation, rows at a time", ">GiB", ">tokens/s on an H200")
    return table(columns, rows)


def cards_table() -> str:
    """What the trainer stands on, card by card, and how fast that is taken to be."""
    shape, rows = olmo(), []
    for gpu in all_gpus():
        on = recipe_on(shape, recipe(), gpu)
        needs = memory_needed(shape, on).total_gib
        if needs > gpu.vram_gib:
            continue
        nth = on.recompute_every * on.checkpointing
        again = {0: "none", 1: "all", 2: "every 2nd"}.get(nth, f"every {nth}th")
        rows.append(
            (
                gpu.name,
                f"{'4' if on.quantised else '16'} bits",
                again,
                on.rows_per_micro_batch,
                on.path.name,
                f"{needs:.1f}",
                f"{speed(shape, on, gpu).expected:,.0f}",
            )
        )
    columns = ("GPU", "base", "blocks recomputed", ">rows", "path", ">GiB", ">tokens/s")
    return table(columns, rows)


def disk_table() -> str:
    """The disk of a fresh machine for OLMo-7B."""
    sizing = disk_needed(olmo(), recipe())
    rows = [(line.what, f"{line.gib:.2f}", line.why) for line in sizing.lines]
    return table(("part", ">GiB", "how"), [*rows, ("in all", f"{sizing.total_gib:.2f}", "")])


TABLES: dict[str, Callable[[], str]] = {
    "gpus": gpu_table,
    "terms": terms_table,
    "memory": memory_table,
    "ladder": ladder_table,
    "cards": cards_table,
    "disk": disk_table,
    "small-job": lambda: job_table(small_job()),
    "large-job": lambda: job_table(large_job()),
}


def filled(text: str) -> str:
    """A page with its tables as the code has them. Raises KeyError for one that nobody makes."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    """Writes the pages, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    for name in PAGES:
        page = HERE / name
        said = page.read_text(encoding="utf-8")
        if filled(said) != said:
            stale.append(name)
            if not check:
                page.write_text(filled(said), encoding="utf-8")
    print(f"{', '.join(stale) or 'nothing'} {'is out of date' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
