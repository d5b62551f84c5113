"""Tokenised samples in files: written once as they come, then read in place, never all in memory.

A folder is named after everything that decides what is in it, so finding it is knowing it. It is
written beside its place and moved there when it is whole: half a folder is never found.
"""

import json
import shutil
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.data import IGNORED, DataSet, Sample
from kwanzaa_trainer.packing import Row, one_by_one, pack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS, LEARNT, INDEX, SKIPPED = "ids.bin", "learnt.bin", "index.npy", "skipped.json"


class TokenFile(Sequence[Sample]):
    """The samples of a folder, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """`folder` was made by `write_tokens`."""
        import numpy as np

        index: NDArray[np.int64] = np.load(folder / INDEX, allow_pickle=False)
        self._lines, self._ends = index[0], index[1]
        self._ids = _mapped(folder / IDS, "<i4")
        self._learnt = _mapped(folder / LEARNT, "u1")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Sample]: ...
    def __getitem__(self, at: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        start = int(self._ends[at - 1]) if at else 0
        place = slice(start, int(self._ends[at]))
        ids, labels = array("i"), array("i")
        ids.frombytes(self._ids[place].astype("=i4").tobytes())
        wanted = self._ids[place].astype("=i4")
        wanted[self._learnt[place] == 0] = IGNORED
        labels.frombytes(wanted.tobytes())
        return Sample(int(self._lines[at]), ids, labels)

    @property
    def lengths(self) -> list[int]:
        """Tokens in each sample; reads no tokens."""
        import numpy as np

        lengths: list[int] = np.diff(self._ends, prepend=0).tolist()
        return lengths


def write_tokens(folder: Path, samples: Iterable[Sample], max_length: int) -> None:
    """Makes `folder` of the samples that are short enough; remembers the lines of the others."""
    import numpy as np

    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    lines, ends, skipped = array("q"), array("q"), array("q")
    longest = end = 0
    with (beside / IDS).open("wb") as ids, (beside / LEARNT).open("wb") as learnt:
        for sample in samples:
            longest = max(longest, len(sample.ids))
            if len(sample.ids) > max_length:
                skipped.append(sample.line)
                continue
            end += len(sample.ids)
            lines.append(sample.line)
            ends.append(end)
            ids.write(np.asarray(sample.ids, dtype="<i4").tobytes())
            learnt.write((np.asarray(sample.labels) != IGNORED).tobytes())
    np.save(beside / INDEX, np.array([lines, ends], dtype=np.int64).reshape(2, -1))
    told = {"lines": list(skipped), "longest": longest}
    (beside / SKIPPED).write_text(json.dumps(told), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def read_skipped(folder: Path) -> tuple[tuple[int, ...], int]:
    """(the lines that were too long, the tokens of the longest sample)."""
    told = json.loads((folder / SKIPPED).read_text(encoding="utf-8"))
    return tuple(told["lines"]), int(told["longest"])


def packed_once(folder: Path, name: str, make: Callable[[], list[Row]]) -> list[Row]:
    """The rows in `folder` under that name; made and kept there where there are none yet."""
    import numpy as np

    path = folder / f"{name}.npy"
    if not path.exists():
        rows = make()
        flat = np.array([len(rows), *map(len, rows), *(i for row in rows for i in row)], np.int64)
        beside = path.with_suffix(".part.npy")
        np.save(beside, flat)
        beside.rename(path)
        return rows
    count, *rest = np.load(path, allow_pickle=False).tolist()
    rows, at = [], count
    for length in rest[:count]:
        rows.append(tuple(rest[at : at + length]))
        at += length
    return rows


def _mapped(path: Path, kind: str) -> "NDArray[np.int32]":
    """A file as an array that the system pages in and out; an empty one cannot be mapped."""
    import numpy as np

    if not path.stat().st_size:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")


def rows_of(data: DataSet, config: TrainingConfig) -> list[Row]:
    """The rows that samples are read in."""
    length = config.data.max_seq_length
    if not config.data.packing:
        return one_by_one(len(data.samples))
    if data.folder is None:
        return pack(data.lengths, length)
    return packed_once(data.folder, f"rows-{length}", lambda: pack(data.lengths, length))
