"""One GPU: do several adapters at once train faster than one after the other, and the same?

    python bench/gpu_adapters.py --out DIR

One base of OLMo-7B's shape, up to four adapters with their own rows and starts. Each is trained by
itself first, then two and four at once; each way writes a row to DIR/results.jsonl with tokens a
second of all of them, memory, and the largest gap between a loss and that of the own run. At last
memory is capped between what two and what four need. Without a GPU it rehearses on a tiny model.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_fast import AS_THE_TRAINER, Notebook, summary, try_allocator

MOST = 4
STEPS = 5
CAPPED_STEPS = 2
ROWS_A_STEP = 8


@dataclass(frozen=True, slots=True)
class Rung:
    """How they train: rows of so many tokens, one at a time; every so many-th block again."""

    name: str
    row: int
    recompute_every: int


@dataclass(slots=True)
class Student:
    """One adapter on the shared base, with where it starts and what it learns from."""

    model: Any
    start: list[Any]
    data: Any
    learner: Any = None
    losses: list[float] = field(default_factory=list)
    ended_at: list[float] = field(default_factory=list)


def main() -> int:
    """All rungs, then the cap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.update({**AS_THE_TRAINER, **os.environ})
    book = Notebook(options.out, "adapters")
    book.note("allocator", **try_allocator())
    import gpu_model as g

    _say_machine(book, g)
    base = g.make_base(quantised=True)
    for rung in (
        Rung("nf4 all x1", g.ROW, 1),
        Rung("nf4 all x1, short rows", g.ROW // 4, 1),
        Rung("nf4 none x1", g.ROW, 0),
    ):
        with book.attempt(rung.name):
            _measure(book, g, rung, base)
    print(summary(options.out), flush=True)
    return 0


def _say_machine(book: Notebook, g: Any) -> None:
    import torch

    name = "CPU rehearsal" if g.SMALL else torch.cuda.get_device_name(0)
    book.note("machine", device=name, torch=torch.__version__, bf16_tflops=g.ceiling_tflops())


def _measure(book: Notebook, g: Any, rung: Rung, base: Any) -> None:
    """One after the other, then two and four at once; on the first rung the cap as well."""
    config = _config(g, rung)
    students = [_student(g, rung, base, config, number) for number in range(MOST)]
    own, speed, peaks = _one_by_one(book, g, rung, students, config)
    for number in (2, MOST):
        _begin(rung, students[:number], config)
        g.settle()
        _at_once(students[:number], number)
        peaks[number] = g.memory_now().get("reserved_gib", 0.0)
        tokens = number * ROWS_A_STEP * rung.row * (STEPS - 1)
        took = _last(students[:number], -1) - _last(students[:number], 0)
        book.note(
            f"{rung.name}, {number} at once",
            adapters=number,
            tok_s=round(tokens / took, 1),
            faster_by=round(tokens / took / speed - 1, 4),
            largest_gap=_gap(students[:number], own),
            predicted_gib=_predicted(g, rung, config, number),
            **g.memory_now(),
        )
        _rest(students)
    if rung.recompute_every and rung.row == g.ROW and not g.SMALL:
        with book.attempt("cap"):
            _capped(book, g, rung, students, config, own, (peaks[2] + peaks[MOST]) / 2)


def _config(g: Any, rung: Rung) -> Any:
    config = g.config_of(dropout=0.05)
    training = config.training.model_copy(update={"gradient_accumulation_steps": ROWS_A_STEP})
    data = config.data.model_copy(update={"max_seq_length": rung.row})
    return config.model_copy(update={"training": training, "data": data})


def _student(g: Any, rung: Rung, base: Any, config: Any, number: int) -> Student:
    import torch

    from kwanzaa_trainer.model import trainable, twin

    model = g.adapted(twin(base), config)
    torch.manual_seed(number)
    for parameter in trainable(model).values():
        parameter.data.add_(torch.randn_like(parameter) * 1e-3)
    start = [parameter.data.to("cpu", copy=True) for parameter in trainable(model).values()]
    samples = [g._sample(rung.row, 1000 * number + n) for n in range(ROWS_A_STEP * STEPS)]  # noqa: SLF001 -- the same tokens as elsewhere
    student = Student(model, start, samples)
    _rest([student])
    return student


def _rest(students: Sequence[Student]) -> None:
    """They hold nothing on the GPU until they begin anew."""
    from kwanzaa_trainer.model import trainable

    for student in students:
        student.learner = None
        parameters = trainable(student.model).values()
        for parameter, value in zip(parameters, student.start, strict=True):
            parameter.data, parameter.grad = value, None


def _begin(rung: Rung, students: Sequence[Student], config: Any) -> None:
    """Every one of them where it started, with a new optimizer; memory to unpack in is shared."""
    from kwanzaa_trainer.fast.path import make_fast_path
    from kwanzaa_trainer.learner import make_learner
    from kwanzaa_trainer.model import trainable
    from kwanzaa_trainer.precision import choose_precision, find_device

    device = find_device()
    precision = choose_precision(config.run.mixed_precision, device)
    scratch = None
    for student in students:
        for parameter, value in zip(trainable(student.model).values(), student.start, strict=True):
            parameter.data = value.to(device.torch_device, copy=True)
        fast = make_fast_path(student.model, precision.torch_dtype, rung.row, scratch=scratch)
        fast.recompute_every = rung.recompute_every
        scratch = fast.model.scratch
        student.learner = make_learner(student.model, config, 100, precision, device, fast=fast)
        student.losses, student.ended_at = [], []


def _steps(g: Any, student: Student, lane: Any = None, count: int = STEPS) -> Iterator[None]:
    """Its steps; one that did not fit is taken again where the others have made room."""
    from kwanzaa_trainer.batches import collate
    from kwanzaa_trainer.learner import take_step
    from kwanzaa_trainer.memory import ShortOfMemoryError

    while len(student.losses) < count:
        at = len(student.losses) * ROWS_A_STEP
        rows = range(at, at + ROWS_A_STEP)
        try:
            result = take_step(student.learner, [collate(student.data, [(n,)], 1) for n in rows])
        except ShortOfMemoryError:
            if lane is None or not lane.made_room():
                raise
            continue
        g.sync()
        student.losses.append(result.loss)
        student.ended_at.append(time.perf_counter())
        yield


def _one_by_one(
    book: Notebook, g: Any, rung: Rung, students: Sequence[Student], config: Any
) -> tuple[list[list[float]], float, dict[int, float]]:
    """(each one's losses, tokens a second, {1: reserved GiB})."""
    own, took, reserved = [], 0.0, 0.0
    for student in students:
        _begin(rung, [student], config)
        g.settle()
        for _ in _steps(g, student):
            pass
        own.append(list(student.losses))
        took += student.ended_at[-1] - student.ended_at[0]
        memory = g.memory_now()
        reserved = max(reserved, memory.get("reserved_gib", 0.0))
        student.learner.fast.close()
        _rest([student])
    speed = len(students) * ROWS_A_STEP * rung.row * (STEPS - 1) / took
    book.note(
        f"{rung.name}, one after the other",
        adapters=1,
        tok_s=round(speed, 1),
        predicted_gib=_predicted(g, rung, config, 1),
        **memory,
    )
    return own, speed, {1: reserved}


def _at_once(students: Sequence[Student], width: int, steps: int = STEPS) -> list[int]:
    """Trains them in lanes; returns how many went at once after each time that memory ended."""
    import gpu_model as g

    from kwanzaa_trainer.abreast import Convoy, Lane
    from kwanzaa_trainer.stopping import Stop

    narrowed: list[int] = []

    def lane_of(number: int, student: Student) -> Lane:
        def work(lane: Lane) -> int:
            student.learner.fast.company = lane
            for _ in _steps(g, student, lane, steps):
                pass
            return 0

        return Lane(str(number), work)

    lanes = [lane_of(number, student) for number, student in enumerate(students)]
    Convoy(lanes, width, Stop(), narrowed.append).travel()
    if any(lane.code for lane in lanes):
        raise RuntimeError(f"lanes ended with {[lane.code for lane in lanes]}")
    return narrowed


def _capped(  # noqa: PLR0917 -- a measurement's parts
    book: Notebook, g: Any, rung: Rung, students: Sequence[Student], config: Any,
    own: Sequence[Sequence[float]], cap_gib: float,
) -> None:  # fmt: skip
    """Four that do not fit into so much memory at once go on in twos, and lose nothing."""
    import torch

    g.settle()
    total = torch.cuda.mem_get_info()[1] / g.GIB
    torch.cuda.set_per_process_memory_fraction(cap_gib / total, 0)
    try:
        _begin(rung, students, config)
        narrowed = _at_once(students, len(students), CAPPED_STEPS)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    gap = _gap(students, own)
    book.note("four, capped", cap_gib=round(cap_gib, 2), then_at_once=narrowed, largest_gap=gap)
    _rest(students)


def _last(students: Sequence[Student], step: int) -> float:
    return max(student.ended_at[step] for student in students)


def _gap(students: Sequence[Student], own: Sequence[Sequence[float]]) -> float:
    """The largest relative gap between a loss and that of the adapter's own run."""
    gaps = [
        abs(loss / mine - 1)
        for student, losses in zip(students, own, strict=False)  # own runs there are more of
        for loss, mine in zip(student.losses, losses, strict=False)  # a capped run is shorter
    ]
    return float(f"{max(gaps):.3g}")


def _predicted(g: Any, rung: Rung, config: Any, adapters: int) -> float:
    from dataclasses import replace

    from kwanzaa_compute.market.recipe import FAST, recipe_from_config
    from kwanzaa_compute.market.shapes import find_shape
    from kwanzaa_compute.market.sizing import memory_needed

    shape = find_shape(g.MODEL)
    recipe = replace(
        recipe_from_config(config),
        rows_per_micro_batch=adapters,
        adapters=adapters,
        checkpointing=rung.recompute_every > 0,
        recompute_every=rung.recompute_every or 1,
        path=FAST,
    )
    return round(memory_needed(shape, recipe).total_gib, 2) if shape else 0.0


if __name__ == "__main__":
    sys.exit(main())
