"""`make soak`: its last line is the verdict, and a violation comes with its shrunk schedule."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kwanzaa_compute.runs import lifecycle

SCRIPT = Path(__file__).parents[2] / "bench" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # its processes look for it by this name
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_soak_ends_with_its_verdict(
    soak: ModuleType, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    assert soak.main(["--seeds", "20", "--jobs", jobs]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "20 schedules, 0 violations"


def test_processes_that_play_on_one_disk_do_not_meet(
    soak: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(soak, "CHUNK", 2)
    assert soak.main(["--seeds", "6", "--jobs", "2", "--disk", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "6 schedules, 0 violations"


def test_a_violation_is_printed_with_its_seed_and_its_shrunk_schedule(
    soak: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_settle_window(attempt: lifecycle.Attempt, _limits: object) -> bool:
        return attempt.absent_s is not None

    monkeypatch.setattr(lifecycle, "_proven_absent", without_a_settle_window)
    assert soak.main(["--seeds", "40", "--jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    verdict = re.fullmatch(r"40 schedules, (\d+) violations", lines[-1])
    assert verdict is not None
    assert int(verdict[1]) == sum(line.startswith("seed ") for line in lines) > 0
    shrunk = [re.fullmatch(r"shrunk from (\d+) strikes to (\d+):", line) for line in lines]
    sizes = [(int(found[1]), int(found[2])) for found in shrunk if found]
    assert sizes
    assert all(few < many for many, few in sizes)
    assert any(line.startswith("schedule: Schedule(seed=") for line in lines)
