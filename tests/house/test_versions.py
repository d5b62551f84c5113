"""One version, everywhere."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = [
    ROOT / "pyproject.toml",
    ROOT / "trainer/pyproject.toml",
    *sorted(ROOT.glob("providers/*/pyproject.toml")),
]


def name_of(file: Path) -> str:
    """Where a distribution lies: a checkout may have any name, also that of a provider."""
    return str(file.parent.relative_to(ROOT))


def project(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text())["project"]


VERSION = project(ROOT / "pyproject.toml")["version"]


def siblings_wanted(file: Path) -> list[str]:
    """Every requirement of one of our own distributions, from dependencies and extras alike."""
    table = project(file)
    extras = table.get("optional-dependencies", {}).values()
    wanted = [*table.get("dependencies", []), *(one for extra in extras for one in extra)]
    return [requirement for requirement in wanted if requirement.startswith("kwanzaa-")]


@pytest.mark.parametrize("file", DISTRIBUTIONS, ids=name_of)
def test_every_distribution_has_the_same_version(file: Path) -> None:
    assert project(file)["version"] == VERSION


@pytest.mark.parametrize("file", DISTRIBUTIONS, ids=name_of)
def test_siblings_pin_each_other_exactly(file: Path) -> None:
    wanted = siblings_wanted(file)
    assert wanted, "each of our distributions names at least one other"
    for requirement in wanted:
        assert re.fullmatch(rf"kwanzaa-[a-z-]+(\[[a-z,]+\])?=={re.escape(VERSION)}", requirement)


def test_the_package_says_its_version() -> None:
    import kwanzaa_compute

    assert kwanzaa_compute.__version__ == VERSION
    assert importlib.metadata.version("kwanzaa-compute") == VERSION
    assert importlib.metadata.version("kwanzaa-trainer") == VERSION


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == VERSION
