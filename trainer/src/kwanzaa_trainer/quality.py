"""How good generated answers are: what is read in a reply, and the share that each metric counts.

The definitions, in words and with their reasons, stand in `docs/quality.md`. No torch in here.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IsCompliant = Callable[[Any], bool]
Count = tuple[int, int]
"""(how many hold, of how many)."""

_CITATION = re.compile(r"\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
_DOCUMENT = re.compile(r"^[ \t]*\[(\d{1,4})\]", re.MULTILINE)
_REFUSAL = re.compile(
    r"\b(?:(?:can ?not|can't|could not|couldn't|unable to) (?:answer|be answered|provide|find)"
    r"|(?:no|not enough|insufficient|lacks?(?: the)?) (?:relevant |reliable |sufficient )?"
    r"(?:information|data|context|documents|sources)"
    r"|do(?:es)? not (?:contain|have|provide) (?:any |enough |sufficient )?"
    r"(?:information|data|context|documents|sources))\b",
    re.IGNORECASE,
)
_REFUSED = "insufficient_data"


@dataclass(frozen=True, slots=True)
class Question:
    """One sample of the evaluation data: what is asked, and how the sample answers it."""

    line: int
    prompt: str
    """The text that the model continues."""
    asked: str
    """What stands in it, without the template's marks: here the given documents are."""
    reference: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says, as far as a program can tell."""

    document: Mapping[str, Any] | None
    """The JSON object in it; None where there is none."""
    text: str
    """The answer in words: the object's `answer.text`, `answer` or `text`, else the reply."""
    citations: tuple[int, ...]
    """The numbers in brackets in `text`, in order, repeated ones too."""
    refuses: bool
    sources: tuple[str, ...]
    """For each entry of the object's `sources` its address, else its label, else ""."""


def read_reply(reply: str) -> Reading:
    """Reads a reply; whatever it is, this never raises."""
    document = _json_object(reply)
    text = reply if document is None else _answer_text(document, reply)
    return Reading(
        document,
        text,
        tuple(int(n) for found in _CITATION.findall(text) for n in re.findall(r"\d+", found)),
        _refuses(document, text),
        () if document is None else _sources(document),
    )


def count(
    questions: Sequence[Question],
    replies: Iterable[str],
    metrics: Iterable[str],
    is_compliant: IsCompliant,
) -> dict[str, Count]:
    """Each metric's count over the replies, which may be fewer than the questions."""
    names = tuple(metrics)
    sums = {name: [0, 0] for name in names}
    for question, reply in zip(questions, replies, strict=False):
        case = _Case(
            frozenset(map(int, _DOCUMENT.findall(question.asked))),
            question.asked,
            read_reply(question.reference),
            read_reply(reply),
        )
        for name in names:
            if name == "schema_compliance_rate":
                found = case.reply.document
                one = (int(found is not None and is_compliant(found)), 1)
            else:
                one = _COUNTED[name](case)
            sums[name] = [a + b for a, b in zip(sums[name], one, strict=True)]
    return {name: (hits, of) for name, (hits, of) in sums.items()}


def rates(counts: Mapping[str, Count]) -> dict[str, float | None]:
    """Each metric from 0 to 1; None where there was nothing to count."""
    return {name: hits / of if of else None for name, (hits, of) in counts.items()}


def missed(found: Mapping[str, float | None], targets: Mapping[str, float | None]) -> list[str]:
    """The metrics below their targets, by name; one that was not measured misses nothing."""
    return sorted(
        name
        for name, rate in found.items()
        if rate is not None and (target := targets.get(name)) is not None and rate < target
    )


@dataclass(frozen=True, slots=True)
class _Case:
    documents: frozenset[int]
    asked: str
    reference: Reading
    reply: Reading

    @property
    def is_to_be_cited(self) -> bool:
        return bool(self.documents) and not self.reference.refuses


def _valid(case: _Case) -> Count:
    return int(case.reply.document is not None), 1


def _covered(case: _Case) -> Count:
    return (int(bool(case.reply.citations)), 1) if case.is_to_be_cited else (0, 0)


def _accurate(case: _Case) -> Count:
    cited = case.reply.citations
    return sum(number in case.documents for number in cited), len(cited)


def _refused_rightly(case: _Case) -> Count:
    return int(case.reply.refuses is case.reference.refuses), 1


def _grounded(case: _Case) -> Count:
    if not case.is_to_be_cited:
        return 0, 0
    reply = case.reply
    names_one = bool(reply.citations or reply.sources)
    invents = any(number not in case.documents for number in reply.citations) or any(
        not source or source not in case.asked for source in reply.sources
    )
    return int(names_one and not invents), 1


_COUNTED: Mapping[str, Callable[[_Case], Count]] = {
    "json_valid_rate": _valid,
    "citation_coverage_rate": _covered,
    "citation_accuracy_rate": _accurate,
    "refusal_correctness_rate": _refused_rightly,
    "retrieval_groundedness_rate": _grounded,
}


def _json_object(reply: str) -> Mapping[str, Any] | None:
    """The object that begins at the first brace: one further in may be a piece of a torn one."""
    start = reply.find("{")
    if start < 0:
        return None
    try:
        found, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(reply, start)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON knows no {name}")


def _answer_text(document: Mapping[str, Any], reply: str) -> str:
    answer = document.get("answer")
    inner = answer.get("text") if isinstance(answer, dict) else answer
    for text in (inner, document.get("text")):
        if isinstance(text, str):
            return text
    return reply


def _refuses(document: Mapping[str, Any] | None, text: str) -> bool:
    """What the object says of itself counts; only where it says nothing do the words."""
    answer = None if document is None else document.get("answer")
    completeness = answer.get("completeness") if isinstance(answer, dict) else None
    if completeness is not None:
        return bool(completeness == _REFUSED)
    return _REFUSAL.search(text) is not None


def _sources(document: Mapping[str, Any]) -> tuple[str, ...]:
    listed = document.get("sources")
    return tuple(map(_named, listed)) if isinstance(listed, list) else ()


def _named(source: Any) -> str:
    if isinstance(source, str):
        return source
    keys = ("canonical_url", "url", "citation_label", "title")
    found = [source.get(key) for key in keys] if isinstance(source, dict) else []
    return next((name for name in found if isinstance(name, str) and name), "")
