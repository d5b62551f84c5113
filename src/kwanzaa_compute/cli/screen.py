"""Where output goes: data to stdout, talk to stderr, colours only where a person looks."""

import json
import math
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from kwanzaa_compute.cli.words import clean

if TYPE_CHECKING:
    from rich.console import Console

JSON_SCHEMA_VERSION = 1
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_NARROWEST = 20
_WIDE = 10_000
"""Columns of a pipe or a file: nothing is wrapped or cut there."""


def is_fancy(stream: TextIO) -> bool:
    """Whether a person looks at this stream and wants colours (`NO_COLOR`, `TERM=dumb`)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


class Screen:
    """One command's voice. With `as_json` stdout carries JSON only, one object a line."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Looks at stdin, stdout and stderr as they are now."""
        self.as_json = as_json
        self.is_live = not as_json and is_fancy(sys.stderr)
        self.can_ask = not as_json and sys.stdin.isatty() and sys.stdout.isatty()

    # -- data ---------------------------------------------------------------------------------

    def json(self, document: Mapping[str, Any]) -> None:
        """One JSON object on one line of stdout, with the version of its schema."""
        whole = sound({"schema": JSON_SCHEMA_VERSION, **document})
        sys.stdout.write(json.dumps(whole, allow_nan=False) + "\n")
        sys.stdout.flush()

    def write(self, text: str = "", style: str = "") -> None:
        """A line of data."""
        _print(sys.stdout, text, style)

    def raw(self, text: str) -> None:
        """A line of data that is never broken, however long it is."""
        _print(sys.stdout, text, wrap=False)

    def paragraph(self, title: str, text: str, style: str = "") -> None:
        """A title with text beside it, whose further lines stand under the first."""
        width = _columns() if sys.stdout.isatty() else _WIDE
        indent = " " * len(title)
        lines = [
            part
            for line in clean(text, lines=True).splitlines() or [""]
            for part in textwrap.wrap(line, max(_NARROWEST, width - len(title))) or [""]
        ]
        _print(sys.stdout, title + f"\n{indent}".join(lines), style, wrap=False)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        expendable: Sequence[str] = (),
    ) -> None:
        """A table of data; a column whose name begins with `>` is aligned to the right.

        Where the terminal is too narrow, `expendable` columns are left out, the first one first.
        """
        if sys.stdout.isatty() and expendable:
            columns, rows = _narrowed(columns, list(rows), expendable)
        if not sys.stdout.isatty():  # nothing to fold, cut or colour: spare the reader rich's start
            sys.stdout.writelines(_plain_table(columns, [[clean(c) for c in row] for row in rows]))
            sys.stdout.flush()
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name in columns:
            right = name.startswith(">")
            table.add_column(
                name.lstrip(">"),
                justify="right" if right else "left",
                no_wrap=name != columns[-1],
                overflow="fold" if name == columns[-1] else "ellipsis",
            )
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        _render(sys.stdout, table)

    # -- talk ---------------------------------------------------------------------------------

    def talk(self, text: str = "", style: str = "") -> None:
        """A line about what happens."""
        _print(sys.stderr, text, style)

    def note(self, text: str, style: str = "dim") -> None:
        """One line of talk, cut where the terminal ends."""
        width = _columns()
        if sys.stderr.isatty() and len(text) > width:
            text = f"{text[: width - 4]} ..."
        self.talk(text, style)

    def warn(self, text: str) -> None:
        """A line about what somebody should look at."""
        self.talk(f"warning: {clean(text)}", "yellow")

    def ask(self, question: str, *, default: bool) -> bool:
        """A question that is answered with yes or no. Ask only where `can_ask`."""
        sys.stderr.write(f"{question} [{'Y/n' if default else 'y/N'}] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:  # the terminal was closed: nobody has said yes
            return False
        answer = answer.strip().lower()
        return default if not answer else answer in {"y", "yes"}


def console(stream: TextIO) -> "Console":
    """A rich console that obeys no markup, and writes plain text where nobody looks."""
    from rich.console import Console

    fancy = is_fancy(stream)
    return Console(
        file=stream,
        force_terminal=fancy,
        no_color=not fancy,
        width=None if stream.isatty() else _WIDE,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )


def _print(stream: TextIO, text: str, style: str = "", *, wrap: bool = True) -> None:
    text = clean(text, lines=True)
    if wrap and stream.isatty():
        text = "\n".join(_wrapped(line) for line in text.split("\n"))
    if style and is_fancy(stream):
        codes = ";".join(_STYLES[word] for word in style.split())
        text = f"\x1b[{codes}m{text}\x1b[0m"
    stream.write(f"{text}\n")
    stream.flush()


def _columns() -> int:
    """How wide the terminal is, by its own word or that of `COLUMNS`."""
    import shutil  # brings three ways of compression along: not for output that nobody looks at

    return shutil.get_terminal_size().columns


def _wrapped(line: str) -> str:
    """A line broken between words, where the terminal is too narrow for it."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    width = max(_NARROWEST, _columns())
    if len(line) <= width:
        return line
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


def _narrowed(
    columns: Sequence[str], rows: Sequence[Sequence[str]], expendable: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """The table without those columns for which there is no room beside the last one's words."""
    kept = list(range(len(columns)))
    cells = [columns, *rows]

    def needed() -> int:
        widths = [max(_cells(clean(row[index])) for row in cells) for index in kept]
        return sum(widths[:-1]) + min(widths[-1], _NARROWEST) + 2 * (len(widths) - 1)

    for name in expendable:
        if needed() > shutil.get_terminal_size().columns:
            kept.remove(columns.index(name))
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table that is as wide as it needs to be."""
    head = [name.lstrip(">") for name in columns]
    widths = [max(map(_cells, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        parts = []
        for name, cell, width in zip(columns, row, widths, strict=True):
            space = " " * (width - _cells(cell))
            parts.append(space + cell if name.startswith(">") else cell + space)
        lines.append("  ".join(parts).rstrip() + "\n")
    return lines


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    shown = (c for c in text if not unicodedata.combining(c))
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown)


def _render(stream: TextIO, renderable: Any) -> None:
    shown = console(stream)
    with shown.capture() as captured:
        shown.print(renderable)
    lines = captured.get().splitlines()
    stream.writelines(f"{line.rstrip()}\n" for line in lines)
    stream.flush()


def sound(value: Any) -> Any:
    """A value in JSON's own types: money as text, no NaN, sets sorted."""
    if isinstance(value, Mapping):
        return {str(key): sound(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [sound(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
