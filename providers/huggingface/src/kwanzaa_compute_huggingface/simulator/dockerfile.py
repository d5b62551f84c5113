"""A small part of Dockerfile, enough to start the container of a Space as a process here.

The image itself is taken as it is on this machine: its Python is ours, and what `RUN` would
install is there already. Whatever is not understood is a build error, as on the Hub.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

DONE_BY_THE_IMAGE = re.compile(
    r"(?:python3? -m )?pip3? install\b.*|apt-get .*|useradd .*|mkdir .*|chown .*"
)
IGNORED = frozenset({"USER", "EXPOSE", "LABEL", "MAINTAINER", "STOPSIGNAL", "SHELL", "HEALTHCHECK"})


class BuildError(Exception):
    """The image cannot be built; the text goes into the build log."""


@dataclass(slots=True)
class Image:
    """What a Dockerfile makes: files at their places, variables, and the command to start."""

    base: str = ""
    files: dict[PurePosixPath, bytes] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    folder: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))
    log: list[str] = field(default_factory=list)

    @property
    def argv(self) -> list[str]:
        """What is started."""
        return [*self.entrypoint, *self.command]


def build(dockerfile: str, files: Mapping[str, bytes]) -> Image:
    """Reads a Dockerfile, with the repository's files to copy from; `BuildError` where it fails."""
    image = Image()
    for line in _instructions(dockerfile):
        image.log.append(f"--> {line}")
        word, _, rest = line.partition(" ")
        _apply(image, word.upper(), rest.strip(), files)
    if not image.base:
        raise BuildError("no build stage in current context")
    if not image.argv:
        raise BuildError("no command specified")
    return image


def _instructions(dockerfile: str) -> list[str]:
    joined = re.sub(r"\\\s*\n", " ", dockerfile)
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _apply(image: Image, word: str, rest: str, files: Mapping[str, bytes]) -> None:
    match word:
        case "FROM":
            image.base = rest.split(maxsplit=1)[0]
        case "WORKDIR":
            image.folder = image.folder / rest
        case "ENV":
            image.env |= dict(pair.partition("=")[::2] for pair in shlex.split(rest))
        case "COPY" | "ADD":
            _copy(image, [part for part in shlex.split(rest) if not part.startswith("--")], files)
        case "CMD":
            image.command = _words(rest)
        case "ENTRYPOINT":
            image.entrypoint = _words(rest)
        case "RUN" if DONE_BY_THE_IMAGE.fullmatch(rest):
            image.log.append("    done by the image")
        case word if word not in IGNORED:
            raise BuildError(f"dockerfile parse error: unknown instruction: {word} {rest}")


def _words(text: str) -> list[str]:
    """The exec form is a list, the shell form a line for `sh -c`."""
    if not text.startswith("["):
        return ["sh", "-c", text]
    try:
        words = json.loads(text)
    except ValueError as error:
        raise BuildError(f"not a list of words: {text}") from error
    return [str(word) for word in words]


def _copy(image: Image, parts: Sequence[str], files: Mapping[str, bytes]) -> None:
    *sources, target = parts
    into = image.folder / target
    for source in sources:
        folder = "" if source in {".", "./"} else source.rstrip("/") + "/"
        inside = {name: data for name, data in files.items() if name.startswith(folder)}
        if source in files:
            is_folder = target.endswith("/") or target in {".", "./"} or len(sources) > 1
            name = PurePosixPath(source).name
            image.files[into / name if is_folder else into] = files[source]
        elif inside:
            image.files |= {into / n.removeprefix(folder): data for n, data in inside.items()}
        else:
            raise BuildError(f'"/{source}": not found')
