"""Canaries: each credential has a unique value here, and no test may leave one anywhere.

After each test its folder, its output and its report are searched; every argv and the environment
of every machine are looked at as they are started; at the end the whole temporary folder.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

RENTING = (
    "RUNPOD_API_KEY",
    "LAMBDA_API_KEY",
    "AZURE_CLIENT_SECRET",
    "NVIDIA_API_KEY",
    "WANDB_API_KEY",
)
"""Credentials that no machine may get, whatever it trains on."""
STORING = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "HF_TOKEN",
)
CANARIES = {
    name: f"canary0{hashlib.sha256(name.encode()).hexdigest()[:24]}" for name in RENTING + STORING
}
_ANY = re.compile("|".join(CANARIES.values()))
_ANY_BYTES = re.compile("|".join(CANARIES.values()).encode())
_LARGEST = 64 << 20
_escaped: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Sets the canaries, unless real credentials are needed: for tests on real accounts."""
    if "live" in str(config.option.markexpr).replace("not live", ""):
        return
    os.environ.update(CANARIES)
    sys.addaudithook(_look_at_children)


def _look_at_children(event: str, args: tuple[Any, ...]) -> None:
    """No argv holds a credential; no machine's environment one that rents."""
    if event not in {"subprocess.Popen", "os.posix_spawn", "os.exec"}:
        return
    argv = [os.fsdecode(word) for word in args[1] if isinstance(word, str | bytes | os.PathLike)]
    if any(map(_ANY.search, argv)):
        _escaped.append(f"argv of {argv[0]}")
    if any("local_machine" in word for word in argv):
        _escaped.extend(_of_a_machine(args[2] if event == "os.posix_spawn" else args[3]))


def _of_a_machine(environment: Mapping[Any, Any] | None) -> Iterator[str]:
    values = {os.fsdecode(value) for value in (environment or os.environ).values()}
    for name in RENTING:
        if any(CANARIES[name] in value for value in values):
            yield f"{name} in the environment of a machine"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Searches what a test printed and logged, and what its failure shows."""
    report = yield
    told = [report.longreprtext, *(text for _title, text in report.sections)]
    if any(map(_ANY.search, told)):
        _escaped.append(f"the output of {item.nodeid}")
    return report  # type: ignore[no-any-return]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Fails the test that let a canary escape; the last one answers for the whole session."""
    result = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None:
        _search(folder)
    if nextitem is None:
        _search(item.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]  # noqa: SLF001 -- session fixtures wrote there
    escaped, _escaped[:] = list(_escaped), []
    assert not escaped, f"a credential escaped: {', '.join(escaped)}"  # noqa: S101 -- the verdict
    return result


def _search(folder: Path) -> None:
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
                continue
            try:
                found = _ANY_BYTES.search(path.read_bytes())
            except OSError:  # a test took our right to read it, or it went away
                continue
            if found:
                _escaped.append(str(path))
