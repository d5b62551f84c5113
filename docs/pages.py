"""Markdown pages as programs: their blocks, their commands, and what they say comes out.

    ```console          commands after `$ `, each with what it prints; `...` stands for anything
    ```sh               commands only
    ```python           a script, or a test where it defines one
    ```yaml, json       a piece of a training.yaml; a JSON document

A comment before a block changes what is done with it:

    <!-- not run: REASON -->     its commands are only checked against the real command line
    <!-- exits 2 -->             its last command ends with this exit code
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n\n?)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_LOOP = re.compile(r"^for [^\n]*; do$.*?^done$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(kwanzaa [^`\n]+)`")
_STANDS_FOR = {
    "AMOUNT": "5",
    "COMMAND": "plan",
    "HOURS": "1",
    "N": "1",
    "SHELL": "bash",
    "A|B": "A",
}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is where it begins, `mark` the comment before it."""

    page: str
    line: int
    kind: str
    text: str
    mark: str

    @property
    def not_run(self) -> str:
        """Why it is not executed; "" where it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run:") else ""

    @property
    def exits(self) -> int:
        """The exit code that its last command ends with."""
        return int(self.mark.removeprefix("exits ")) if self.mark.startswith("exits ") else 0


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block, and what the page says that it prints; None: it does not say."""

    text: str
    prints: str | None = None


def blocks_of(page: Path, name: str) -> list[Block]:
    """The page's blocks in order."""
    text = page.read_text()
    return [
        Block(
            page=name,
            line=text.count("\n", 0, match.start("kind")) + 1,
            kind=match["kind"],
            text=match["text"],
            mark=match["mark"] or "",
        )
        for match in _FENCE.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a `console` or `sh` block."""
    if block.kind == "sh":
        whole = block.text.replace("\\\n", " ")
        whole = _LOOP.sub(lambda loop: loop[0].replace("\n", "\0"), whole)
        lines = (line.strip().replace("\0", "\n") for line in whole.splitlines())
        yield from (Command(line) for line in lines if line and not line.startswith("#"))
        return
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        first, _, rest = part.replace("\\\n", " ").partition("\n")
        yield Command(first.strip(), rest if rest.strip() else None)


def inline_commands(page: Path) -> list[str]:
    """Commands of ours that stand in running text."""
    return _INLINE.findall(page.read_text())


def words_for_kwanzaa(command: str) -> list[list[str]]:
    """The arguments of every call of kwanzaa in a command, with values for what stands for one."""
    calls = []
    for part in re.split(r"\s*(?:&&|\|\||;|\||>|\n)\s*", command.split(" # ", maxsplit=1)[0]):
        words = shlex.split(part.replace("…", "").replace("...", ""))
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and words[0].rpartition("/")[2] == "kwanzaa":
            calls.append([_STANDS_FOR.get(word, word) for word in words[1:]])
    return calls


def says(expected: str, actual: str) -> bool:
    """Whether what came out is what the page says; `...` stands for anything."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else _line_pattern(line)
        for line in expected.rstrip().splitlines()
    )
    tidy = "".join(f"{line.rstrip()}\n" for line in actual.splitlines())
    return re.fullmatch(rf"{pattern}", tidy) is not None


def _line_pattern(line: str) -> str:
    return ".*?".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
