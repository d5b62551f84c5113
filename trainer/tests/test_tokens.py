"""Tokenised samples in files: the same as in memory, made once, and never found by half."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_trainer.chat import chat_format
from kwanzaa_trainer.data import Reader
from kwanzaa_trainer.packing import pack
from kwanzaa_trainer.tokens import TokenFile, packed_once, write_tokens


@pytest.fixture
def reader(tokenizer: Any) -> Callable[..., Reader]:
    def make(form: str = "text_jsonl", length: int = 64) -> Reader:
        return Reader(tokenizer, chat_format(tokenizer, None), form, length)

    return make


def data_file(folder: Path, count: int = 300) -> Path:
    path = folder / "train.jsonl"
    texts = (f"sample {n} " + "umoja " * (n % 13) for n in range(count))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def plain(samples: Any) -> list[tuple[int, list[int], list[int]]]:
    return [(s.line, s.ids.tolist(), s.labels.tolist()) for s in samples]


def test_samples_from_files_equal_those_in_memory(reader: Any, tmp_path: Path) -> None:
    path = data_file(tmp_path)
    here = reader().read(path, "t")
    there = reader().read(path, "t", cache=tmp_path / "cache")
    assert plain(there.samples) == plain(here.samples)
    assert there.skipped == here.skipped
    assert there.skipped
    assert there.lengths == here.lengths
    assert plain(there.samples[-3:]) == plain(here.samples[-3:])
    assert plain([there.samples[-1]]) == plain([here.samples[-1]])
    with pytest.raises(IndexError):
        there.samples[len(here.samples)]


def test_the_same_content_is_tokenised_once_and_any_other_anew(
    reader: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path, cache, made = data_file(tmp_path), tmp_path / "cache", []
    tokenise = Reader._tokenise
    monkeypatch.setattr(Reader, "_tokenise", lambda *a: made.append(1) or tokenise(*a))
    first = reader().read(path, "t", cache=cache)
    after_one = len(made)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    again = reader().read(copy, "t", cache=cache)
    assert (len(made), again.folder) == (after_one, first.folder)
    others = {first.folder}
    others.add(reader(length=50).read(path, "t", cache=cache).folder)
    path.write_text(path.read_text().replace("sample 7 ", "sample 8 "))
    others.add(reader().read(path, "t", cache=cache).folder)
    assert len(others) == 3
    assert len(made) == 3 * after_one


def test_what_broke_off_is_not_found_and_is_made_again(
    samples: Callable[..., Any], tmp_path: Path
) -> None:
    rows = samples([5, 9, 3])

    def breaks_off() -> Any:
        yield rows[0]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_tokens(tmp_path / "x", breaks_off(), 100)
    assert not (tmp_path / "x").exists()
    write_tokens(tmp_path / "x", iter(rows), 100)
    assert plain(TokenFile(tmp_path / "x")) == plain(rows)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_no_sample_at_all_is_an_empty_file(tmp_path: Path) -> None:
    write_tokens(tmp_path / "x", iter(()), 100)
    assert list(TokenFile(tmp_path / "x")) == []
    assert TokenFile(tmp_path / "x").lengths == []


def test_rows_are_packed_once(tmp_path: Path) -> None:
    lengths = [40, 3, 60, 21, 100, 7]
    first = packed_once(tmp_path, "rows-100", lambda: pack(lengths, 100))
    assert first == pack(lengths, 100)
    assert packed_once(tmp_path, "rows-100", lambda: pytest.fail("made again")) == first
    assert packed_once(tmp_path, "rows-10", list) == packed_once(tmp_path, "rows-10", list) == []


def test_writing_holds_no_more_than_a_piece_in_memory(tmp_path: Path) -> None:
    import tracemalloc
    from array import array

    import numpy as np  # noqa: F401 -- its own import is not what is weighed

    from kwanzaa_trainer.data import IGNORED, Sample

    def many() -> Any:
        for number in range(2000):
            ids = array("i", [number] * 2000)
            yield Sample(number, ids, array("i", [IGNORED]) + ids[1:])

    tracemalloc.start()
    try:
        write_tokens(tmp_path / "x", many(), 2000)
        samples = TokenFile(tmp_path / "x")
        assert samples[1999].ids[-1] == 1999
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "x/ids.bin").stat().st_size == 2000 * 2000 * 4
    assert peak < 2_000_000
