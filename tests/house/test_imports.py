"""What a first import costs, and what each distribution may import at all."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOO_HEAVY_FOR_THE_FIRST_IMPORT = {
    "accelerate",
    "azure",
    "bitsandbytes",
    "boto3",
    "cyclopts",
    "httpx2",
    "huggingface_hub",
    "kwanzaa_trainer",
    "numpy",
    "obstore",
    "peft",
    "rich",
    "torch",
    "transformers",
}
TRAINER_MAY_IMPORT = {
    "kwanzaa_compute.clock",
    "kwanzaa_compute.config",
    "kwanzaa_compute.errors",
    "kwanzaa_compute.failpoint",
    "kwanzaa_compute.market.interruptions",
    "kwanzaa_compute.market.gpus",
    "kwanzaa_compute.market.recipe",
    "kwanzaa_compute.market.shapes",
    "kwanzaa_compute.market.sizing",
    "kwanzaa_compute.market.speed",
    "kwanzaa_compute.secret",
    "kwanzaa_compute.store",
}
USED_EXTRAS = ("testing", "torch", "http", "ssh", "wandb")
SOURCES = {
    "kwanzaa-compute": ROOT / "src/kwanzaa_compute",
    "kwanzaa-trainer": ROOT / "trainer/src/kwanzaa_trainer",
}


def imported_modules(folder: Path) -> set[str]:
    """Every module that a folder's files import, at the top or inside a function."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return found


def declared(distribution: str) -> set[str]:
    """The distributions that one of ours depends on, by their names in lower case."""
    folder = SOURCES[distribution].parents[1]
    table = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    # Whoever uses `kwanzaa_compute.testing` has pytest: it runs nowhere else. And whoever builds a
    # driver on `kwanzaa_compute.drivers.http` or `.ssh_keys` declares what those stand on.
    extras = table.get("optional-dependencies", {})
    wanted = [*table["dependencies"], *(r for e in USED_EXTRAS for r in extras.get(e, []))]
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in wanted)
    return {normalised(name[0]) for name in names if name}


def normalised(name: str) -> str:
    """A distribution's name as the packaging standard compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def owners_of_modules() -> dict[str, set[str]]:
    """Top-level module -> the distributions that bring it."""
    found = importlib.metadata.packages_distributions()
    owners = {module: {normalised(name) for name in names} for module, names in found.items()}
    # Ours are linked into the environment, which records no module names for them.
    owners |= {folder.name: {distribution} for distribution, folder in SOURCES.items()}
    # pydantic pins its compiled half exactly, and documents its use.
    owners["pydantic_core"] = {"pydantic"}
    # torch's CUDA build pins it exactly; elsewhere it is not there, and not asked for.
    owners["triton"] = {"torch"}
    return owners


def test_the_first_import_is_light() -> None:
    code = "import kwanzaa_compute, sys; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "kwanzaa_compute" in loaded
    assert TOO_HEAVY_FOR_THE_FIRST_IMPORT & set(loaded) == set()


def test_help_needs_no_training_library() -> None:
    code = (
        "import sys; from kwanzaa_compute.cli import main\n"
        "sys.argv = ['kwanzaa', '--help']\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "print('loaded:', *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    loaded = set(output.rpartition("loaded:")[2].split())
    allowed = {"cyclopts", "rich"}
    assert (TOO_HEAVY_FOR_THE_FIRST_IMPORT - allowed) & loaded == set()


def test_the_trainer_shares_only_what_it_may() -> None:
    shared = {
        name
        for name in imported_modules(SOURCES["kwanzaa-trainer"])
        if name.partition(".")[0] == "kwanzaa_compute"
    }
    assert shared
    allowed = tuple(f"{name}." for name in TRAINER_MAY_IMPORT)
    assert {name for name in shared if not f"{name}.".startswith(allowed)} == set()


@pytest.mark.parametrize("distribution", SOURCES)
def test_what_is_imported_is_declared(distribution: str) -> None:
    # An environment that holds both distributions would hide a dependency that one of them forgot.
    roots = {name.partition(".")[0] for name in imported_modules(SOURCES[distribution])}
    foreign = roots - sys.stdlib_module_names - {SOURCES[distribution].name}
    owners = owners_of_modules()
    assert foreign
    assert {m for m in foreign if not owners.get(m, {m}) & declared(distribution)} == set()
