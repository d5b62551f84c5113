"""JSONL files as tokens with labels: what is read, what is learnt, what is skipped and why."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.errors import DataError
from kwanzaa_trainer.chat import ChatFormat, MarkedText, Span, parse_messages
from kwanzaa_trainer.quality import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is read but not learnt."""

CACHE_FORMAT = 1
"""Counted up when the same file would be cut into other tokens or labels than before."""
TOKENISE_AT_ONCE = 256
SHOWN_LINES = 10
LEAST_KEPT = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a data file as tokens. The first label is always `IGNORED`."""

    line: int
    ids: "array[int]"
    labels: "array[int]"


@dataclass(frozen=True, slots=True)
class DataSet:
    """The samples of one file, and the lines that were left out because they are too long."""

    samples: Sequence[Sample]
    skipped: tuple[int, ...]
    folder: Path | None = None
    """Where the tokens lie; None where they are held in memory."""

    @property
    def lengths(self) -> list[int]:
        """Tokens in each sample."""
        told: list[int] | None = getattr(self.samples, "lengths", None)
        return [len(sample.ids) for sample in self.samples] if told is None else told

    def skipped_words(self) -> str:
        """Which lines were left out, for people; "" where none was."""
        if not self.skipped:
            return ""
        shown = ", ".join(map(str, self.skipped[:SHOWN_LINES]))
        more = ", ..." if len(self.skipped) > SHOWN_LINES else ""
        return f"{len(self.skipped)} samples are too long and skipped (lines {shown}{more})"


@dataclass(frozen=True, slots=True)
class Reader:
    """How lines become samples."""

    tokenizer: "PreTrainedTokenizerBase"
    chat: ChatFormat
    form: str
    """`chat_jsonl`, `prompt_completion_jsonl` or `text_jsonl`."""
    max_length: int

    def read(
        self,
        path: Path,
        shown_as: str,
        *,
        moved: Callable[[], None] = lambda: None,
        cache: Path | None = None,
    ) -> DataSet:
        """Every sample of a file; `moved` is called after each piece of work.

        With a `cache` folder the tokens are written there as they come and read from there, so
        that neither has to fit into memory; what is there already is not made again.
        Raises `DataError` naming file and line, or saying that too little is short enough.
        """
        samples = self._samples(path, shown_as, moved)
        if cache is None:
            found = list(samples)
            kept = tuple(sample for sample in found if len(sample.ids) <= self.max_length)
            skipped = tuple(s.line for s in found if len(s.ids) > self.max_length)
            longest = max((len(s.ids) for s in found), default=0)
            data = DataSet(kept, skipped)
        else:
            from kwanzaa_trainer.tokens import TokenFile, read_skipped, write_tokens

            folder = cache / self._key(path)
            if not folder.exists():
                write_tokens(folder, samples, self.max_length)
            skipped, longest = read_skipped(folder)
            data = DataSet(TokenFile(folder), skipped, folder)
        self._require_enough(data, shown_as, longest)
        return data

    def _samples(self, path: Path, shown_as: str, moved: Callable[[], None]) -> Iterator[Sample]:
        objects = _objects(path, shown_as)
        while batch := list(islice(objects, TOKENISE_AT_ONCE)):
            yield from self._tokenise(batch, shown_as)
            moved()

    def _key(self, path: Path) -> str:
        """A digest of all that decides what the tokens of a file are."""
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        said = [
            CACHE_FORMAT,
            content,
            self.form,
            self.max_length,
            self.tokenizer.eos_token_id,
            self.tokenizer.backend_tokenizer.to_str(),
            self.tokenizer.chat_template,
            self.chat.system_prompt,
            self.chat.takes_system,
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]

    def first_prompt(self, path: Path, shown_as: str) -> tuple[str, str]:
        """(question, prompt): what the file's first sample asks, and the text a model continues."""
        line, raw = next(_objects(path, shown_as))
        self._mark(raw, f"{shown_as}:{line}")
        if self.form == "chat_jsonl":
            messages = raw["messages"]
            turn = next(i for i, m in enumerate(messages) if m["role"] == "assistant")
            asked = [m["content"] for m in messages[:turn] if m["role"] == "user"]
            return (asked or [""])[-1], self.chat.prompt(messages[:turn])
        if self.form == "prompt_completion_jsonl":
            return raw["prompt"], raw["prompt"]
        start = raw["text"][: max(1, min(200, len(raw["text"]) // 2))]
        return start, start

    def questions(self, path: Path, shown_as: str, most: int | None) -> list[Question]:
        """What the first `most` samples ask and answer: of a chat, its last answer.

        A text without a question asks nothing.
        """
        if self.form == "text_jsonl":
            return []
        lines = islice(_objects(path, shown_as), most)
        return [self._question(line, raw, f"{shown_as}:{line}") for line, raw in lines]

    def _question(self, line: int, raw: Any, place: str) -> Question:
        self._mark(raw, place)
        if self.form == "prompt_completion_jsonl":
            return Question(line, raw["prompt"], raw["prompt"], raw["completion"])
        messages = raw["messages"]
        last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
        asked = "\n\n".join(m["content"] for m in messages[:last] if m["role"] != "assistant")
        return Question(line, self.chat.prompt(messages[:last]), asked, messages[last]["content"])

    def _tokenise(self, batch: Sequence[tuple[int, Any]], shown_as: str) -> Iterator[Sample]:
        marked = [self._mark(raw, f"{shown_as}:{line}") for line, raw in batch]
        encoded = self.tokenizer(
            [text.text for text in marked],
            add_special_tokens=self.form != "chat_jsonl",
            return_offsets_mapping=True,
        )
        rows = zip(batch, marked, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        for (line, _), text, ids, offsets in rows:
            sample = self._sample(line, text, ids, offsets)
            if all(label == IGNORED for label in sample.labels):
                raise DataError(f"{shown_as}:{line}: there is no answer to learn from")
            yield sample

    def _sample(self, line: int, text: MarkedText, ids: list[int], offsets: list[Span]) -> Sample:
        labels = [
            token if any(end > a and start < b for a, b in text.spans) else IGNORED
            for token, (start, end) in zip(ids, offsets, strict=True)
        ]
        end = self.tokenizer.eos_token_id
        if not text.is_rendered and end is not None and ids[-1:] != [end]:
            ids, labels = [*ids, end], [*labels, end]
        # Nothing comes before the first token to predict it from; in a packed row what lies
        # before it is another sample.
        return Sample(line, array("i", ids), array("i", [IGNORED, *labels[1:]]))

    def _mark(self, raw: Any, place: str) -> MarkedText:
        try:
            if self.form == "chat_jsonl":
                return self.chat.mark(parse_messages(_field(raw, "messages")))
            if self.form == "prompt_completion_jsonl":
                prompt, answer = _text(raw, "prompt"), _text(raw, "completion")
                return MarkedText(prompt + answer, ((len(prompt), len(prompt + answer)),))
            text = _text(raw, "text")
            return MarkedText(text, ((0, len(text)),))
        except ValueError as error:
            mend = f"data.format is {self.form}"
            raise DataError(f"{place}: {error}", mend=mend) from error

    def _require_enough(self, data: DataSet, shown_as: str, longest: int) -> None:
        total = len(data.samples) + len(data.skipped)
        if not total:
            raise DataError("there is no sample in it", file=shown_as)
        if len(data.samples) < LEAST_KEPT * total or not data.samples:
            raise DataError(
                f"only {len(data.samples)} of {total} samples fit into data.max_seq_length ="
                f" {self.max_length} tokens; the longest has {longest}",
                file=shown_as,
                mend="raise data.max_seq_length, or shorten the samples",
            )


def _objects(path: Path, shown_as: str) -> Iterator[tuple[int, Any]]:
    """(line number, object) of every line that is not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:
                why = getattr(error, "msg", None) or "it is not UTF-8"
                raise DataError(f"not JSON: {why}", file=shown_as, line=number) from error


def _field(raw: Any, key: str) -> Any:
    if not isinstance(raw, dict) or key not in raw:
        raise ValueError(f"it has no {key!r}")
    return raw[key]


def _text(raw: Any, key: str) -> str:
    value = _field(raw, key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key!r} must be text, not empty")
    return value
