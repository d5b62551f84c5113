"""Writes the tables of docs/benchmarks/README.md from the raw rows that lie beside it.

    python docs/benchmarks/tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; every figure in it is a raw row's,
or worked out here from raw rows. With `--check` nothing is written; the exit status is 1 where
the page says something else.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
RUNS = {number: f"2026-11-24-h200-fast-{number}.jsonl" for number in (1, 2, 3, 5)}
RUNS[6] = "2026-11-24-h200-adapters.jsonl"
ABREAST = {
    "nf4 all x1": "all, 2,048 tokens",
    "nf4 all x1, short rows": "all, 512 tokens",
    "nf4 none x1": "none, 2,048 tokens",
}
TEAM = "2026-11-24-h100-team.jsonl"
FASTEST = "bf16 none x8"
THEN = {"HF": 4901, "TRL": 5434, "Unsloth": 8160, "Unsloth, none": 11382, "Unsloth, best": 17723}
"""Tokens/s of an earlier study on another H200: not measured in these runs."""
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def rows(run: int) -> tuple[dict[str, Any], ...]:
    """The raw rows of one run."""
    text = (HERE / RUNS[run]).read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def row(run: int, name: str) -> dict[str, Any]:
    """The raw row of that name. Raises LookupError where the run has none, or several."""
    found = [each for each in rows(run) if each["name"] == name and "error" not in each]
    if len(found) != 1:
        raise LookupError(f"run {run} has {len(found)} rows named {name}")
    return found[0]


def table(columns: Sequence[str], cells: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a column whose name begins with `>` is aligned to the right."""
    lines = [
        "| " + " | ".join(name.lstrip(">") for name in columns) + " |",
        "|" + "|".join("---:" if name.startswith(">") else "---" for name in columns) + "|",
    ]
    lines.extend("| " + " | ".join(map(str, each)) + " |" for each in cells)
    return "\n".join(lines) + "\n"


def rate(each: dict[str, Any], key: str = "tok_s") -> str:
    """Tokens a second, for people."""
    return f"{each[key]:,.0f}"


def targets_table() -> str:
    """What was asked, what was measured, and whom it is held against."""
    main, default = row(5, "nf4 all x1"), row(5, "nf4 all x1, repeatable, fresh")
    full, none, best = (row(3, name) for name in ("nf4 all x1", "nf4 none x1", FASTEST))
    hf, unsloth, without = (row(5, PEERS[name][0]) for name in ("HF", "Unsloth", "Unsloth, none"))
    share = best["model_tflops"] / row(1, "machine")["bf16_tflops"]
    short = row(3, "packed nf4 all x1")
    share_of_full = short["useful_tok_s"] / full["useful_tok_s"]
    return table(
        ("mode", "asked", "ours: tokens/s (GiB reserved)", "beside peers, same run", "peers then"),
        [
            (
                "NF4, all recomputed, one row",
                "11,000 in 6.2 GiB, 2.2x HF, 1.3x Unsloth; reach for 13,000",
                (
                    f"{rate(main)} ({main['reserved_gib']}); as it is by default, repeatable: "
                    f"{rate(default)} ({default['reserved_gib']})"
                ),
                (
                    f"{times(main, hf)} HF, {times(main, unsloth)} Unsloth; by default "
                    f"{times(default, hf)} and {times(default, unsloth)}"
                ),
                f"HF {THEN['HF']:,} · TRL {THEN['TRL']:,} · Unsloth {THEN['Unsloth']:,}",
            ),
            (
                "NF4, nothing recomputed, one row",
                "15,500 in 13 GiB",
                f"{rate(none)} ({none['reserved_gib']})",
                f"Unsloth {rate(without)} ({without['reserved_gib']}), in another run",
                f"Unsloth {THEN['Unsloth, none']:,}",
            ),
            (
                "the fastest: bf16, nothing recomputed, 8 rows",
                "18,000 and 65 % MFU; reach for 70 %",
                f"{rate(best)} ({best['reserved_gib']}): {share:.1%} of the card's own rate",
                "-",
                f"Unsloth {THEN['Unsloth, best']:,}",
            ),
            (
                "NF4, short samples, packed",
                "fill 98 %, 95 % of the full rows' rate",
                (
                    f"fill {short['fill']:.1%}; {rate(short, 'useful_tok_s')} useful, "
                    f"{share_of_full:.1%} of {rate(full, 'useful_tok_s')}"
                ),
                "the table of peers",
                "-",
            ),
        ],
    )


def times(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """How many times as fast."""
    return f"{ours['tok_s'] / theirs['tok_s']:.2f}x"


PEERS = {
    "HF": ("transformers.Trainer nf4 all x1", None),
    "TRL": ("TRL 1.15.0 nf4 all x1, full rows", "TRL 1.15.0 nf4 all x1, its own packing"),
    "Unsloth": (
        "Unsloth 2026.10.9 nf4 all x1, full rows",
        "Unsloth 2026.10.9 nf4 all x1, its own packing",
    ),
    "Unsloth, none": ("Unsloth 2026.10.9 nf4 none x1, full rows", None),
}
"""The rows of each peer: full rows, and short samples in its own packing."""


def peers_table() -> str:
    """Peers and ours in one run on one machine."""
    cells = []
    for name, key in (
        ("ours", "nf4 all x1"),
        ("ours, by default", "nf4 all x1, repeatable, fresh"),
    ):
        each = row(5, key)
        cells.append((name, rate(each), f"{each['reserved_gib']:.2f}", "-", "-"))
    for whole, packed in PEERS.values():
        full, short = row(5, whole), row(5, packed) if packed else None
        share = f"{short['useful_tok_s'] / full['tok_s']:.1%}" if short else "-"
        useful = rate(short, "useful_tok_s") if short else "-"
        name = whole.removesuffix(", full rows")
        cells.append((name, rate(full), f"{full['reserved_gib']:.2f}", useful, share))
    columns = ("who", ">tokens/s", ">GiB reserved", ">useful tokens/s, own packing", ">share")
    return table(columns, cells)


def rungs_table() -> str:
    """Every rung of the third run, with the memory that had been predicted."""
    cells = []
    for each in rows(3):
        if "predicted_gib" in each:
            off = each["predicted_gib"] / each["card_gib"] - 1
            cells.append(
                (
                    each["name"],
                    rate(each),
                    f"{each['reserved_gib']:.2f}",
                    f"{each['card_gib']:.2f}",
                    f"{each['predicted_gib']:.2f}",
                    f"{off:+.1%}",
                    f"{each['model_tflops']:.1f}",
                )
            )
    columns = ("rung", ">tokens/s", ">GiB reserved", ">GiB of the card", ">GiB predicted")
    return table((*columns, ">off by", ">TFLOP/s"), cells)


def caps_table() -> str:
    """The rung that the planner took under each card's limit."""
    cells = [
        (e["name"], e["rung"], rate(e), f"{e['card_gib']:.2f}", f"{e['needs_gib']:.2f}")
        for e in rows(2)
        if e["cell"] == "caps"
    ]
    return table(
        ("card", "rung taken", ">tokens/s", ">GiB of the card", ">GiB predicted"),
        sorted(cells, key=lambda each: int(each[0].split()[0])),
    )


def packing_table() -> str:
    """Short samples, packed, beside full rows on the same rung."""
    cells = []
    for name in ("nf4 all x1", "bf16 none x1", "bf16 none x4"):
        full, short = row(3, name), row(3, f"packed {name}")
        cells.append(
            (
                name,
                f"{short['fill']:.2%}",
                rate(short, "useful_tok_s"),
                rate(full, "useful_tok_s"),
                f"{short['useful_tok_s'] / full['useful_tok_s']:.1%}",
            )
        )
    columns = ("rung", ">fill", ">useful tokens/s, packed", ">useful tokens/s, full rows", ">share")
    return table(columns, cells)


def team_table() -> str:
    """The same step on one card and on two that hold the whole base each."""
    text = (HERE / TEAM).read_text(encoding="utf-8")
    found = {(each["cell"], each["name"]): each for each in map(json.loads, text.splitlines())}
    cells = []
    for name in ("nf4, nothing recomputed, 1 row", "bf16, nothing recomputed, 4 rows"):
        one, two = found["one", name], found["two", name]
        (loss, norm), (its_loss, its_norm) = one["by_step"][0], two["by_step"][0]
        cells.append(
            (
                name,
                f"{rate(one)} ({one['reserved_gib']})",
                f"{rate(two)} ({two['reserved_gib']})",
                f"{two['tok_s'] / one['tok_s'] / 2:.1%}",
                f"{abs(its_loss / loss - 1):.0e}",
                f"{abs(its_norm / norm - 1):.0e}",
            )
        )
    columns = ("step", ">one card: tokens/s (GiB)", ">two cards: tokens/s (GiB each)")
    return table((*columns, ">kept of each", ">loss differs by", ">gradient's norm by"), cells)


def same_table() -> str:
    """What the fast path computes beside the reference path, and beside itself."""
    one = row(1, "same as the reference path")
    free, held = (row(3, f"three steps twice, {kind}") for kind in ("not repeatable", "repeatable"))
    main, exact = row(3, "nf4 all x1"), row(3, "nf4 all x1, repeatable")
    return table(
        ("what", "measured"),
        [
            ("loss, reference and fast", f"{one['loss']:.5f} and {one['fast_loss']:.5f}"),
            ("gradient's norm, fast against reference", f"{one['norm_differs_by']:+.3%}"),
            ("gradient's direction, cosine", f"{one['direction']:.4f}"),
            ("three steps twice, `deterministic: true`", f"largest gap {held['largest_gap']}"),
            ("three steps twice, `deterministic: false`", f"largest gap {free['largest_gap']:.1e}"),
            ("what `deterministic: true` costs", f"{rate(exact)} for {rate(main)} tokens/s"),
        ],
    )


def adapters_table() -> str:
    """Several adapters at once on one base, against one after the other."""
    columns = ("blocks recomputed, rows", ">at once", ">tokens/s of all", ">faster by")
    columns += (">GiB reserved", ">GiB predicted for the card", ">largest gap of a loss")
    cells = []
    for rung, words in ABREAST.items():
        alone = row(6, f"{rung}, one after the other")
        for each in (alone, row(6, f"{rung}, 2 at once"), row(6, f"{rung}, 4 at once")):
            is_alone = each is alone
            faster = "" if is_alone else f"{100 * (each['tok_s'] / alone['tok_s'] - 1):.1f}%"
            gap = "" if is_alone else f"{each['largest_gap']:.1e}"
            memory = (each["reserved_gib"], each["predicted_gib"])
            cells.append((words, each["adapters"], rate(each), faster, *memory, gap))
    return table(columns, cells)


TABLES: dict[str, Callable[[], str]] = {
    "targets": targets_table,
    "peers": peers_table,
    "rungs": rungs_table,
    "caps": caps_table,
    "packing": packing_table,
    "same": same_table,
    "adapters": adapters_table,
    "team": team_table,
}


def filled(text: str) -> str:
    """The page with its tables as the raw rows have them. Raises KeyError for an unknown one."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    """Writes the page, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    said = PAGE.read_text(encoding="utf-8")
    is_stale = filled(said) != said
    if is_stale and not check:
        PAGE.write_text(filled(said), encoding="utf-8")
    print("out of date" if is_stale and check else "written" if is_stale else "nothing to do")
    return int(check and is_stale)


if __name__ == "__main__":
    sys.exit(main())
