"""General English for the quickstart's tiny base: prose and plain-text chats, no Kwanzaa in it.

Patterns and words are written by hand in `corpus/`; this module fills the slots. A slot such as
`{town}` means the same town all through one passage, `{town2}` another one, and what fills a slot
may have slots itself. The people and towns are invented. Choices come from a hash, so the text is
the same on every machine.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "corpus"
PASSAGES_PER_PATTERN = 45
PLAIN_REPEATS = 24
"""How often the finished passages of `plain.txt` come, beside the filled patterns."""
CHAT_SYSTEM_PROMPTS = (
    "You are a friendly helper.",
    "You answer questions about crafts, food and holidays.",
    "Answer briefly and in plain words.",
)
_SLOT = re.compile(r"\{([a-z]+)([23]?)\}")
_SENTENCE_START = re.compile(r"(^|[.?!:] |\] |\n)[a-z]")

Words = dict[str, list[str]]
Chat = list[dict[str, str]]


def prose() -> list[str]:
    """Every passage of plain prose."""
    words = _words()
    filled = [
        _filled(pattern, words, f"prose {number} {round_}")
        for round_ in range(PASSAGES_PER_PATTERN)
        for number, pattern in enumerate(_lines("prose.txt"))
    ]
    return filled + _lines("plain.txt") * PLAIN_REPEATS


def chats() -> list[Chat]:
    """Every chat: a system message, a question and an answer in plain prose."""
    return list(_chats(_words(), _lines("chat.txt")))


def _chats(words: Words, patterns: Sequence[str]) -> Iterator[Chat]:
    for round_ in range(PASSAGES_PER_PATTERN):
        for number, pattern in enumerate(patterns):
            seed = f"chat {number} {round_}"
            question, answer = _filled(pattern.replace("\\n", "\n"), words, seed).split(" => ")
            system = CHAT_SYSTEM_PROMPTS[_choice(seed, len(CHAT_SYSTEM_PROMPTS))]
            yield [
                {"role": "system", "content": system},
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer[0].upper() + answer[1:]},
            ]


def _words() -> Words:
    pairs = (line.split(": ") for line in _lines("words.txt"))
    return {kind: choices.split(", ") for kind, choices in pairs}


def _lines(name: str) -> list[str]:
    return (FOLDER / name).read_text(encoding="utf-8").splitlines()


def _filled(pattern: str, words: Words, seed: str) -> str:
    def word(slot: re.Match[str]) -> str:
        choices = words[slot[1]]
        first = _choice(f"{seed} {slot[1]}", len(choices))
        # A numbered slot never repeats the word of the one without a number.
        step = 1 + _choice(f"{seed} {slot[0]}", len(choices) - 1) if slot[2] else 0
        return choices[(first + step) % len(choices)]

    text = pattern
    while _SLOT.search(text):
        text = _SLOT.sub(word, text)
    return _SENTENCE_START.sub(lambda start: start[0].upper(), text)


def _choice(seed: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % count
