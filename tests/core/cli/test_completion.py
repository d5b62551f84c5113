"""The completion scripts, in the shells that they are for."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.cli.app import COMMANDS, build_app

Cli = Callable[..., Any]
Tool = Callable[[str], str]
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def ask(cli: Cli, tmp_path: Path, require_tool: Tool) -> Callable[..., str]:
    """`ask("bash", question)` is what the shell prints, with its own script in `_kwanzaa`."""

    def run(shell: str, question: str) -> str:
        tool = require_tool(shell)
        (tmp_path / "_kwanzaa").write_text(cli("completion", shell).out)
        flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
        words = [tool, *flags, "-c", question]
        return subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    return run


BASH = """\
source ./_kwanzaa
function=$(complete -p kwanzaa | sed 's/.*-F \\([^ ]*\\).*/\\1/')
for line in 'tr' 'train --max-u' 'resume --fr'; do
  COMP_WORDS=(kwanzaa $line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  "$function" kwanzaa "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
  echo "${COMPREPLY[@]}"
done
"""


def test_bash_completes_commands_and_options(ask: Callable[..., str]) -> None:
    assert ask("bash", BASH).split() == ["train", "--max-usd", "--from"]


def test_fish_completes_commands_and_options(ask: Callable[..., str]) -> None:
    lines = ("kwanzaa tr", "kwanzaa train --max-u", "kwanzaa resume --fr")
    asked = "; ".join(f"complete -C '{line}'" for line in lines)
    said = ask("fish", f"source ./_kwanzaa; {asked}").splitlines()
    offered = [line.split("\t")[0] for line in said]
    assert offered == ["train", "--max-usd", "--from"]


def test_zsh_takes_the_script_for_its_own(ask: Callable[..., str]) -> None:
    question = (
        "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; echo $_comps[kwanzaa];"
        " autoload +X _kwanzaa; whence -f _kwanzaa"
    )
    first, *body = ask("zsh", question).splitlines()
    assert first == "_kwanzaa"
    assert "--max-usd" in "\n".join(body)


# ---- JSON everywhere -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, *_ in COMMANDS])
def test_every_command_speaks_json_and_its_keys_are_documented(name: str) -> None:
    arguments = build_app(fancy=False)[name].assemble_argument_collection()
    assert "--json" in {known for argument in arguments for known in argument.names}
    assert f"`{name}`" in (DOCS / "json.md").read_text(encoding="utf-8")
