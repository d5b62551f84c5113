"""The wheels build, and each works from an environment that holds nothing else of ours.

The environment is empty but for one path: the third-party packages of the one that runs the tests.
Installing those afresh would mean torch again, minutes and gigabytes, for every test run; what that
shortcut could hide, an undeclared dependency, `test_imports.py` looks for.
"""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(one) for one in argv], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One wheel for each distribution, built with the tools at hand."""
    target = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "trainer"):
        build = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
        run(*build, "--outdir", target, source, cwd=target)
    return sorted(target.glob("*.whl"))


@pytest.fixture(scope="module")
def fresh(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with the wheels in it."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=False)
    python = home / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", *wheels, cwd=home)
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home)
    # Only the folder is added: the links to this checkout (*.pth) inside it are not followed.
    (Path(packages.strip()) / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_there_is_a_wheel_for_each_distribution(wheels: list[Path]) -> None:
    assert [wheel.name.partition("-")[0] for wheel in wheels] == [
        "kwanzaa_compute",
        "kwanzaa_trainer",
    ]


def test_a_wheel_carries_its_types_and_its_licence_and_no_tests(wheels: list[Path]) -> None:
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        package = wheel.name.partition("-")[0]
        assert f"{package}/py.typed" in names
        assert any(name.endswith("licenses/LICENSE") for name in names)
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {package}


def test_both_packages_import_from_their_wheels(fresh: Path) -> None:
    code = (
        "import kwanzaa_compute as core, kwanzaa_trainer as trainer\n"
        "print(core.__file__, trainer.__file__)"
    )
    files = run(fresh / "python", "-c", code, cwd=fresh).split()
    assert [Path(file).is_relative_to(fresh.parent) for file in files] == [True, True]


def test_the_command_works_from_its_wheel(fresh: Path) -> None:
    assert "train" in run(fresh / "kwanzaa", "--help", cwd=fresh)


def test_the_local_driver_is_found_from_its_wheel(fresh: Path) -> None:
    assert "local" in run(fresh / "kwanzaa", "providers", cwd=fresh)


def test_the_trainer_command_works_from_its_wheel(fresh: Path) -> None:
    assert run(fresh / "kwanzaa-trainer", "--help", cwd=fresh)
