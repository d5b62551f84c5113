"""Every block and command in the documents is executed, or at least understood by the real program.

The tutorial comes first: its run is the one that the other pages look at (`RUN` in their commands).
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from filelock import FileLock

from kwanzaa_compute.cli.app import COMMANDS, build_app
from kwanzaa_compute.config.loading import parse
from kwanzaa_compute.drivers.plugins import discover

ROOT = Path(__file__).parents[2]
LIMIT_S = 120
QUICK = "  max_steps: 24"
SLOWER = {"steps: 80": "steps: 12"}
"""What is cut from the quickstart, so that a page takes seconds: its saves and evaluations too."""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_pages"] = module
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


pages = _load()
ALL = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "trainer/*.md", "providers/**/*.md")
    for path in ROOT.glob(pattern)
    if not {".venv", "node_modules"} & set(path.parts)
)
RUN_HERE = [
    page
    for page in ALL
    if page != "docs/tutorial.md"
    and not page.startswith(("trainer/", "providers/"))
    and any(b.kind in {"console", "sh", "python"} for b in pages.blocks_of(ROOT / page, page))
]


# ---- a project as a reader has it ----------------------------------------------------------------


@pytest.fixture(scope="session")
def world(shared_folder: Path, tiny_base: Path) -> Path:
    """A folder with the quickstart, cut short, in which the tutorial has been followed once."""
    folder = shared_folder / "documents"
    with FileLock(f"{folder}.lock"):
        if not (folder / "followed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make_project(folder, tiny_base)
            run_page("docs/tutorial.md", folder, run_id="")
            (folder / "followed").touch()
    return folder


def _make_project(folder: Path, base: Path) -> None:
    quickstart = folder / "examples" / "quickstart"
    ignored = shutil.ignore_patterns("base", "__pycache__")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignored)
    (quickstart / "base").symlink_to(base)
    text = (quickstart / "training.yaml").read_text()
    for long, short in {"\ntraining:\n": f"\ntraining:\n{QUICK}\n", **SLOWER}.items():
        assert long in text
        text = text.replace(long, short)
    (quickstart / "training.yaml").write_text(text)
    shutil.copytree(quickstart / "data", folder / "data")
    (folder / "training.yaml").write_text(text)
    (folder / "base").symlink_to(base)


def _environment(folder: Path) -> dict[str, str]:
    mine = {
        "HOME": str(folder),
        "KWANZAA_HOME": str(folder / "home"),
        "KWANZAA_HEARTBEAT_S": "0.1",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    keys = {name for info in discover().providers.values() for name in info.environment}
    kept = {n: v for n, v in os.environ.items() if not n.startswith("KWANZAA_") or "SPEND" in n}
    return {n: v for n, v in kept.items() if n not in keys} | mine


def _shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


# ---- what is executed ----------------------------------------------------------------------------


def run_page(page: str, folder: Path, run_id: str) -> None:
    """Executes a page's blocks in order; fails at the first that does not do what it says."""
    for block in pages.blocks_of(ROOT / page, page):
        if block.not_run:
            continue
        if block.kind == "python":
            _run_python(block, folder)
        elif block.kind in {"console", "sh"}:
            _run_commands(block, folder, run_id)


def _run_commands(block: Any, folder: Path, run_id: str) -> None:
    commands = list(pages.commands_of(block))
    for number, command in enumerate(commands, start=1):
        done = _shell(folder, re.sub(r"\bRUN\b", run_id, command.text) if run_id else command.text)
        place = f"{block.page}:{block.line}: $ {command.text}\n{done.stdout}"
        expected = block.exits if number == len(commands) else 0
        assert done.returncode == expected, place
        if command.prints is not None:
            assert pages.says(command.prints, done.stdout), f"{place}\n--- the page says\n{command}"


def _run_python(block: Any, folder: Path) -> None:
    is_test = "def test_" in block.text
    script = folder / ("test_page.py" if is_test else "page.py")
    script.write_text(block.text)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if is_test else []
    done = subprocess.run(
        [sys.executable, *words, script.name],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{block.page}:{block.line}:\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(world: Path) -> None:
    assert (world / "outputs" / "quickstart" / "adapter_model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE)
def test_a_page_does_what_it_says(page: str, world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(world, folder, symlinks=True, ignore=shutil.ignore_patterns("home"))
    (folder / "home").symlink_to(world / "home")
    listed = json.loads(_shell(folder, "kwanzaa runs --all --json 2>/dev/null").stdout)
    finished = [run["run"] for run in listed["runs"] if run["state"] == "done"]
    run_page(page, folder, run_id=finished[-1])


# ---- what is only understood ---------------------------------------------------------------------


def _written_down() -> Iterator[tuple[str, str]]:
    for page in ALL:
        for block in pages.blocks_of(ROOT / page, page):
            if block.kind in {"console", "sh"} and not block.exits:
                yield from ((page, command.text) for command in pages.commands_of(block))
        yield from ((page, text) for text in pages.inline_commands(ROOT / page))


@pytest.fixture(scope="module")
def understood() -> Callable[[list[str]], str]:
    """`understood(words)` is what the real command line has against them, or ""."""
    from cyclopts import CycloptsError, MissingArgumentError

    app = build_app(fancy=False)

    def check(words: list[str]) -> str:
        if len(words) <= 1:  # a command that is only named
            return "" if {*words} <= {"--help", *(name for name, *_ in COMMANDS)} else "unknown"
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except MissingArgumentError:
            return ""  # running text may leave CONFIG away
        except CycloptsError as error:
            return str(error)
        return ""

    return check


def test_no_page_invents_a_command_or_an_option(understood: Callable[[list[str]], str]) -> None:
    wrong, count = [], 0
    for page, text in _written_down():
        for words in pages.words_for_kwanzaa(text):
            count += 1
            if why := understood(words):
                wrong.append(f"{page}: {text}: {why}")
    assert wrong == []
    assert count > 60


@pytest.mark.parametrize("words", [["train", "x.yaml", "--max-usdd", "5"], ["fly"], ["show"] * 3])
def test_an_invented_option_would_be_noticed(
    words: list[str], understood: Callable[[list[str]], str]
) -> None:
    assert understood(words)


def test_no_message_names_a_command_that_there_is_not() -> None:
    names = {name for name, *_ in COMMANDS}
    named: set[str] = set()
    for source in (*ROOT.glob("src/**/*.py"), *ROOT.glob("trainer/src/**/*.py")):
        named |= set(re.findall(r"\bkwanzaa ([a-z]+)\b(?=[ \"'`;,.)]| --)", source.read_text()))
    assert named - names <= {"itself"}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page, text in _written_down()
        for target in re.findall(r"(?:^|&& )make ([a-z-]+)", text)
    }
    assert named
    assert named <= targets


def test_what_is_not_run_says_why_and_what_is_has_a_known_kind() -> None:
    wrong = []
    for page in ALL:
        for block in pages.blocks_of(ROOT / page, page):
            known = block.mark == "" or block.not_run.strip() or block.mark.startswith("exits ")
            kinds = {"console", "sh", "python", "yaml", "json", "toml", "text"}
            if not known or block.kind not in kinds:
                wrong.append(f"{page}:{block.line}: {block.kind} {block.mark!r}")
    assert wrong == []


FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def test_no_command_hides_in_an_indented_block() -> None:
    hidden = [
        f"{page}: {line}"
        for page in ALL
        for line in re.sub(
            r"^```.*?^```$", "", _text(page), flags=re.DOTALL | re.MULTILINE
        ).splitlines()
        if re.match(r" {4,}(\$ )?(kwanzaa|make|python|pip|\.venv/bin/\S+) ", line)
    ]
    assert hidden == []


def _text(page: str) -> str:
    return (ROOT / page).read_text()


BASE = {"model": {"base_model_id": "a/b"}, "data": {"train_file": "train.jsonl"}}


def test_every_piece_of_yaml_is_a_piece_of_a_config() -> None:
    count = 0
    for page in ALL:
        for block in pages.blocks_of(ROOT / page, page):
            if block.kind == "yaml":
                count += 1
                whole = yaml.safe_load(block.text)
                for section, keys in BASE.items():
                    whole[section] = {**keys, **whole.get(section, {})}
                parse(yaml.safe_dump(whole).encode(), Path(f"{page}:{block.line}"))
            elif block.kind == "json":
                json.loads(block.text)
    assert count > 3


def test_every_link_leads_somewhere_and_every_page_is_in_the_index() -> None:
    links = [
        (page, target)
        for page in ALL
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", _text(page))
    ]
    broken = [(p, t) for p, t in links if not (ROOT / p).parent.joinpath(t).exists()]
    assert broken == []
    assert len(links) > 20
    index = _text("docs/README.md")
    named = [page.removeprefix("docs/") for page in ALL if page.startswith("docs/")]
    assert [page for page in named if page not in index and page != "README.md"] == []


# ---- the checker itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a ... c\n", "a b (1) c   \n", True),
        ("a\n", "a\nb\n", False),
        ("a ... c\n", "a b\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_a_page_shows_is_compared(expected: str, actual: str, same: bool) -> None:
    assert pages.says(expected, actual) is same


def test_blocks_and_commands_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n<!-- not run: it rents -->\n```sh\n# no command\nkwanzaa train \\\n  c --yes\n```\n"
        "\n```console\n$ a | b\nout\n$ X=1 kwanzaa runs && kwanzaa show RUN\n```\n"
    )
    first, second = pages.blocks_of(page, "page.md")
    assert (first.kind, first.not_run, first.line) == ("sh", "it rents", 4)
    assert [c.text.split() for c in pages.commands_of(first)] == [
        ["kwanzaa", "train", "c", "--yes"]
    ]
    assert [(c.text, c.prints) for c in pages.commands_of(second)] == [
        ("a | b", "out\n"),
        ("X=1 kwanzaa runs && kwanzaa show RUN", None),
    ]
    assert pages.words_for_kwanzaa("X=1 kwanzaa runs && kwanzaa show RUN > f") == [
        ["runs"],
        ["show", "RUN"],
    ]
