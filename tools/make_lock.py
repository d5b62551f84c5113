"""Writes what a rented machine installs beside its image's torch, with hashes.

`requirements.lock` is what every run needs, `requirements-wandb.lock` what one needs besides that
reports to Weights & Biases.

    make lock

The versions are those of constraints.txt, the packages what the trainer needs except torch and
what torch brings; the hashes are those of the wheels for Linux on x86-64 (and arm64), for each
Python that an image may have. Run it whenever constraints.txt changes.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "trainer/src/kwanzaa_trainer/requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = tuple(
    f"manylinux{version}_{machine}"
    for machine in ("x86_64", "aarch64")
    for version in ("_2_28", "_2_24", "_2_17", "2014", "_2_34")
)
FROM_THE_IMAGE = {"torch", "setuptools", "networkx", "sympy", "mpmath", "filelock"}
HEADER = """\
# What a rented machine installs where its image lacks it: made by tools/make_lock.py.
# torch and what it brings come with the image.
"""


def normalised(name: str) -> str:
    """A distribution's name as the packaging standard compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """Every version in constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {normalised(name): version for name, version in pairs}


def needed(distribution: str, extra: str = "") -> set[str]:
    """The names of everything that a distribution needs, itself left out; torch is not followed."""
    found: set[str] = set()
    waiting = [(distribution, extra)]
    while waiting:
        name, wanted = waiting.pop()
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue  # for another platform or Python
        for line in lines:
            condition = line.partition(";")[2]
            if "extra ==" in condition and (not wanted or wanted not in condition):
                continue
            one = normalised(re.split(r"[\s;\[<>=!~(]", line)[0])
            if one not in found and one not in FROM_THE_IMAGE and not one.startswith("kwanzaa"):
                found.add(one)
                waiting.append((one, ""))
    return found


def hashes(name: str, version: str) -> set[str]:
    """The sha256 of each wheel of a package that some image could want."""
    found = set()
    with tempfile.TemporaryDirectory() as folder:
        for python in PYTHONS:
            for machine in ("x86_64", "aarch64"):
                platforms = [p for p in PLATFORMS if p.endswith(machine)]
                fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
                only = ["--only-binary=:all:", "--python-version", python, "--dest", folder]
                names = [word for platform in platforms for word in ("--platform", platform)]
                wanted = f"{name}=={version}"
                subprocess.run([*fetch, *only, *names, wanted], check=False, capture_output=True)
        for wheel in Path(folder).glob("*.whl"):
            found.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    return found


def main() -> int:
    """Writes the locks; exit code 1 where a package has no wheel at all."""
    names = needed("kwanzaa-trainer", "torch")
    for core in ("pydantic", "obstore"):  # what the trainer uses the core's shared parts for
        names |= {core} | needed(core)
    bare = write(LOCK, names)
    bare += write(
        LOCK.with_name("requirements-wandb.lock"), needed("kwanzaa-trainer", "wandb") - names
    )
    return 1 if bare else 0


def write(lock: Path, names: set[str]) -> list[str]:
    """Writes the lock of these packages; returns those that have no wheel at all."""
    versions = pinned()
    lines, bare = [], []
    for name in sorted(names & versions.keys()):
        found = sorted(hashes(name, versions[name]))
        sys.stderr.write(f"{name} {versions[name]}: {len(found)} wheels\n")
        if not found:
            bare.append(name)
        lines.append(
            " ".join([f"{name}=={versions[name]}", *(f"--hash=sha256:{h}" for h in found)])
        )
    lock.write_text(HEADER + "\n".join(lines) + "\n")
    return bare


if __name__ == "__main__":
    sys.exit(main())
