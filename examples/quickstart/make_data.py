"""Compose the quickstart's training data from the hand-written facts in `facts/`.

    python examples/quickstart/make_data.py            writes data/train.jsonl and data/eval.jsonl
    python examples/quickstart/make_data.py --check    exit code 1 where they differ from the facts

A facts file holds topics, and a topic holds facts, one a paragraph. The first character of a line
says what it is:

    # topic: NAME | train     a new topic, and the file that all its examples go to
    ? question                a way to ask for the fact
    = answer                  the answer to the question in the same place
    @ passage                 a source; the last question is then asked with passages in the prompt
    ~ question => answer      asks for more than the passage above says: a partial answer
    & question => answer << START    needs the passage above and the one that begins with START
    - question => reason      asked with passages of its topic, none of which answers it: refused
    ! question => reason      asked without any source: refused

Nothing here is random. Where a choice has to vary it is taken from a hash of the question, so the
same facts give the same bytes on every machine.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPLITS = ("train", "eval")
DISTRACTORS = (1, 2)
OPENING = "How many unity cups were sold in Georgia this week?"
"""The evaluation's first example: the trainer shows what base and adapter say to it."""
LONG_WORD = 5
SHARED_WORDS = 2
"""A passage that shares more long words than this with question and answer may support them."""
SYSTEM_PROMPT = (
    "You answer questions about Kwanzaa. Reply with one JSON object"
    " with the keys answer, citations and status."
)
LAYOUTS = (
    "Sources:\n{passages}\n\nQuestion: {question}",
    "{question}\n\n{passages}",
    "Use only these passages.\n{passages}\n\n{question}",
)


@dataclass(slots=True)
class Fact:
    """One paragraph of a facts file: ways to ask, an answer to each, perhaps a passage."""

    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    passage: str | None = None


@dataclass(slots=True)
class Topic:
    """Facts that belong together, and with them everything that stays in one split."""

    name: str
    split: str
    facts: list[Fact] = field(default_factory=list)
    partial: list[tuple[str, str, str]] = field(default_factory=list)
    """(question, answer, passage)"""
    both: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(question, answer, passage, start of the other passage)"""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(question, reason), asked with passages"""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(question, reason), asked without"""

    @property
    def passages(self) -> list[str]:
        """Every passage of the topic, in the order of the file."""
        return [fact.passage for fact in self.facts if fact.passage]


@dataclass(frozen=True, slots=True)
class Example:
    """A question, the passages shown with it, and the answer that is wanted."""

    topic: str
    question: str
    answer: str
    status: str
    shown: tuple[str, ...] = ()
    cited: tuple[int, ...] = ()

    def as_json(self) -> str:
        """The line of the data file: the topic, and three messages."""
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": self._prompt()},
            {"role": "assistant", "content": self._reply()},
        ]
        return json.dumps({"topic": self.topic, "messages": messages}, ensure_ascii=False)

    def _prompt(self) -> str:
        if not self.shown:
            return self.question
        passages = "\n".join(f"[{number}] {text}" for number, text in enumerate(self.shown, 1))
        layout = LAYOUTS[_digest("layout", self.question)[0] % len(LAYOUTS)]
        return layout.format(passages=passages, question=self.question)

    def _reply(self) -> str:
        reply = {"answer": self.answer, "citations": list(self.cited), "status": self.status}
        return json.dumps(reply, ensure_ascii=False, separators=(",", ":"))


def read_topics(folder: Path) -> list[Topic]:
    """Every topic of every facts file, files by name. Raises `ValueError` at a line it can't read.

    The message names file and line.
    """
    topics: list[Topic] = []
    for path in sorted(folder.glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                _take_line(topics, line.strip())
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path.name}:{number}: {error}") from None
    return topics


def _take_line(topics: list[Topic], line: str) -> None:
    if line.startswith("# topic: "):
        name, split = _cut(line.removeprefix("# topic: "), " | ")
        if split not in SPLITS:
            raise ValueError(f"no such split: {split}")
        topics.append(Topic(name, split))
    elif not line:
        # A paragraph ends; the next question opens a new fact.
        if topics and topics[-1].facts and topics[-1].facts[-1].questions:
            topics[-1].facts.append(Fact())
    else:
        _take_entry(topics[-1], line[0], line[1:].strip())


def _take_entry(topic: Topic, kind: str, text: str) -> None:
    if not topic.facts:
        topic.facts.append(Fact())
    fact = topic.facts[-1]
    match kind:
        case "?":
            fact.questions.append(text)
        case "=":
            fact.answers.append(text)
        case "@":
            fact.passage = text
        case "~":
            topic.partial.append((*_cut(text, " => "), _passage_above(topic)))
        case "&":
            asked, start = _cut(text, " << ")
            topic.both.append((*_cut(asked, " => "), _passage_above(topic), start))
        case "-":
            topic.missing.append(_cut(text, " => "))
        case "!":
            topic.refused.append(_cut(text, " => "))
        case _:
            raise ValueError(f"a line can't begin with {kind!r}")


def _passage_above(topic: Topic) -> str:
    if not topic.passages:
        raise ValueError("there is no passage above")
    return topic.passages[-1]


def _cut(text: str, separator: str) -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found:
        raise ValueError(f"{separator.strip()!r} is missing")
    return left.strip(), right.strip()


def compose(topics: Sequence[Topic], split: str) -> list[Example]:
    """The examples of one split, mixed; distractors come from topics of the same split only."""
    chosen = [topic for topic in topics if topic.split == split]
    passages = {topic.name: topic.passages for topic in chosen}
    examples = [example for topic in chosen for example in _examples_of(topic, passages)]
    return sorted(examples, key=lambda e: (e.question != OPENING, _digest("order", e.question)))


def _examples_of(topic: Topic, passages: dict[str, list[str]]) -> Iterator[Example]:
    elsewhere = [text for name, texts in passages.items() if name != topic.name for text in texts]
    for fact in topic.facts:
        yield from _examples_of_fact(topic.name, fact, elsewhere)
    for question, answer, passage in topic.partial:
        example = Example(topic.name, question, answer, "partial")
        yield _with_sources(example, [passage], elsewhere)
    for question, answer, passage, start in topic.both:
        (other,) = (text for text in topic.passages if text.startswith(start))
        example = Example(topic.name, question, answer, "answered")
        yield _with_sources(example, [passage, other], elsewhere)
    for question, reason in topic.missing:
        near = _spread(topic.passages, question)[: max(DISTRACTORS)]
        yield Example(topic.name, question, reason, "refused", shown=tuple(near))
    for question, reason in topic.refused:
        yield Example(topic.name, question, reason, "refused")


def _examples_of_fact(topic: str, fact: Fact, elsewhere: Sequence[str]) -> Iterator[Example]:
    asked = list(zip(fact.questions, fact.answers, strict=True))
    # Only one form is asked with passages: the others must be answered from what was learnt.
    plain = asked[:-1] if fact.passage else asked
    for question, answer in plain:
        yield Example(topic, question, answer, "answered")
    if fact.passage:
        example = Example(topic, *asked[-1], "answered")
        yield _with_sources(example, [fact.passage], elsewhere)


def _with_sources(example: Example, needed: Sequence[str], elsewhere: Sequence[str]) -> Example:
    """The example with the needed passages among distractors, and their numbers as citations."""
    question = example.question
    few, many = DISTRACTORS
    count = few if len(needed) > 1 or _digest("count", question)[0] % 2 else many
    subject = _long_words(f"{question} {example.answer}")
    unrelated = [text for text in elsewhere if len(subject & _long_words(text)) <= SHARED_WORDS]
    distractors = _spread(unrelated, question)[:count]
    shown = _spread([*needed, *distractors], "place " + question)
    cited = sorted(shown.index(text) + 1 for text in needed)
    return replace(example, shown=tuple(shown), cited=tuple(cited))


def _long_words(text: str) -> set[str]:
    words = "".join(c if c.isalnum() else " " for c in text.casefold()).split()
    return {word for word in words if len(word) >= LONG_WORD and word != "kwanzaa"}


def _spread(texts: Sequence[str], salt: str) -> list[str]:
    return sorted(texts, key=lambda text: _digest(salt, text))


def _digest(salt: str, text: str) -> bytes:
    return hashlib.sha256(f"{salt}\n{text}".encode()).digest()


def render(folder: Path = HERE / "facts") -> dict[str, str]:
    """File name -> content of both data files."""
    topics = read_topics(folder)
    return {
        f"{split}.jsonl": "".join(example.as_json() + "\n" for example in compose(topics, split))
        for split in SPLITS
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the data files, or with `--check` say which ones are out of date."""
    parser = argparse.ArgumentParser(description="Compose the quickstart's data from its facts.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare only")
    check = parser.parse_args(arguments).check
    outdated = 0
    for name, content in render().items():
        path = HERE / "data" / name
        same = path.exists() and path.read_text(encoding="utf-8") == content
        outdated += not same
        if not check:
            path.write_text(content, encoding="utf-8")
        state = "unchanged" if same else "differs" if check else "written"
        sys.stdout.write(f"{name}: {content.count(chr(10))} examples, {state}\n")
    return int(check and outdated > 0)


if __name__ == "__main__":
    sys.exit(main())
