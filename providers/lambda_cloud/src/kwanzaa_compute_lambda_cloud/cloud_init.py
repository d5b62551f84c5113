"""What cloud-init does with `user_data`, as far as a simulated machine needs it.

    python -m kwanzaa_compute_lambda_cloud.cloud_init FILE

Writes the files, then runs the commands, in this order, as cloud-init does. A simulated machine
has no root of its own: paths are taken from its home, and owners are left alone.
"""

import base64
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HEADER = "#cloud-config"
_ENCODINGS = {"b64", "base64"}


def main(words: Sequence[str]) -> int:
    """Does what the document says. Its last command takes the place of this process."""
    document = parse(Path(words[0]).read_text(encoding="utf-8"))
    root = Path.home()
    for entry in document.get("write_files") or ():
        write_file(entry, root)
    written = {str(entry["path"]) for entry in document.get("write_files") or ()}
    commands = [argv(command, root, written) for command in document.get("runcmd") or ()]
    for command in commands[:-1]:
        subprocess.run(command, check=False)  # cloud-init goes on whatever a command says
    if commands:
        os.execvp(commands[-1][0], commands[-1])  # noqa: S606 -- no shell is what is wanted
    return 0


def parse(text: str) -> Mapping[str, Any]:
    """The document. Raises `ValueError` for what cloud-init would not take for a config."""
    if text.splitlines()[:1] != [HEADER]:
        raise ValueError(f"user data does not begin with {HEADER}")
    document = yaml.safe_load(text)
    if not isinstance(document, dict):
        raise ValueError("user data is no mapping")
    return document


def write_file(entry: Mapping[str, Any], root: Path) -> None:
    """One entry of `write_files`, with its permissions from the first byte on."""
    path = root / str(entry["path"]).lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = str(entry.get("content", ""))
    is_binary = entry.get("encoding") in _ENCODINGS
    mode = int(str(entry.get("permissions", "0644")), 8)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64decode(content) if is_binary else content.encode())


def argv(command: str | Sequence[Any], root: Path, written: set[str]) -> list[str]:
    """One entry of `runcmd`: a string goes through a shell, a list does not."""
    if isinstance(command, str):
        return ["sh", "-c", command]
    words = [str(word) for word in command]
    return [str(root / word.lstrip("/")) if word in written else word for word in words]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
