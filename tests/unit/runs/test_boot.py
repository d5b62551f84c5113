"""The first script on a rented machine, run as it is sent: as text, by a bare Python."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from kwanzaa_compute.runs.jobs import LOADER, boot_text

TRAINER = r"""
import os, signal, sys, time
def end(*_):
    os.write(1, b"told to stop\n")
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
print("words:", *sys.argv[1:], flush=True)
print("secret seen:", "KWANZAA_CODE_URL" in os.environ, flush=True)
if "sleep" in sys.argv:
    time.sleep(60)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.fork() or time.sleep(60)
    time.sleep(60)
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def code(tmp_path: Path) -> tuple[str, str]:
    """The URL and hash of an archive with a trainer that only talks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("kwanzaa_trainer/__init__.py", "")
        archive.writestr("kwanzaa_trainer/__main__.py", TRAINER)
        archive.writestr("kwanzaa_trainer/requirements.lock", "# nothing\n")
    path = tmp_path / "code.zip"
    path.write_bytes(buffer.getvalue())
    return path.as_uri(), hashlib.sha256(buffer.getvalue()).hexdigest()


def boot(
    code: tuple[str, str], home: Path, *words: str, max_s: float = 30, **env: str
) -> "subprocess.Popen[str]":
    """A machine's first process: nothing of ours on its path, and no environment but this."""
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-I", "-c", LOADER, *words],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "KWANZAA_BOOT": boot_text(),
            "KWANZAA_CODE_URL": code[0],
            "KWANZAA_CODE_SHA256": code[1],
            "KWANZAA_MAX_S": str(max_s),
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_trainer_runs_with_its_words_and_ends_with_its_code(
    code: tuple[str, str], tmp_path: Path
) -> None:
    machine = boot(code, tmp_path / "m", "run", "file:///store", CODE="3")
    said, _ = machine.communicate(timeout=30)
    assert machine.returncode == 3
    assert "words: run file:///store" in said


def test_the_signed_url_goes_no_further(code: tuple[str, str], tmp_path: Path) -> None:
    said, _ = boot(code, tmp_path / "m").communicate(timeout=30)
    assert "secret seen: False" in said


def test_code_that_is_not_what_was_sent_is_not_run(
    code: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kwanzaa_compute.runs import boot as module

    monkeypatch.setattr(module.time, "sleep", lambda _s: None)
    monkeypatch.chdir(tmp_path)
    names = {"KWANZAA_CODE_URL": code[0], "KWANZAA_CODE_SHA256": "0" * 64, "KWANZAA_MAX_S": "30"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert module.main(["run"]) == module.EXIT_SETUP
    assert not (tmp_path / ".kwanzaa").exists()


def test_a_failed_set_up_says_no_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kwanzaa_compute.runs import boot as module

    monkeypatch.setattr(module.time, "sleep", lambda _s: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KWANZAA_CODE_URL", "file:///nowhere?signature=canary")
    monkeypatch.setenv("KWANZAA_CODE_SHA256", "0" * 64)
    monkeypatch.setenv("KWANZAA_MAX_S", "30")
    assert module.main(["run"]) == module.EXIT_SETUP
    assert "canary" not in capsys.readouterr().err


def test_a_signal_reaches_the_trainer(code: tuple[str, str], tmp_path: Path) -> None:
    machine = boot(code, tmp_path / "m", "sleep")
    assert machine.stdout is not None
    said = [machine.stdout.readline(), machine.stdout.readline()]
    assert said[-1].startswith("secret seen:")
    machine.send_signal(signal.SIGTERM)
    rest, _ = machine.communicate(timeout=30)
    assert "told to stop" in rest
    assert machine.returncode == 75


def test_the_time_limit_asks_first(code: tuple[str, str], tmp_path: Path) -> None:
    machine = boot(code, tmp_path / "m", "sleep", max_s=1.5)
    said, _ = machine.communicate(timeout=30)
    assert "told to stop" in said
    assert machine.returncode == 124


def test_the_time_limit_ends_what_does_not_listen(code: tuple[str, str], tmp_path: Path) -> None:
    home = tmp_path / "m"
    machine = boot(code, home, "deaf", max_s=1.5, KWANZAA_GRACE_S="0.5")
    machine.communicate(timeout=30)
    assert machine.returncode == 124
    deadline = time.monotonic() + 10
    while still := [p for p in Path("/proc").glob("[0-9]*/cwd") if points_to(p, home)]:
        assert time.monotonic() < deadline, still
        time.sleep(0.02)


def points_to(link: Path, folder: Path) -> bool:
    try:
        return link.resolve() == folder.resolve()
    except OSError:
        return False


def test_what_the_image_has_at_the_locked_version_is_kept() -> None:
    from importlib.metadata import version

    from kwanzaa_compute.runs.boot import is_there

    assert is_there(f"pydantic=={version('pydantic')} --hash=sha256:00")
    assert not is_there("pydantic==0.0.1 --hash=sha256:00")
    assert not is_there("no-such-package==1.0 --hash=sha256:00")


def a_wheel(folder: Path) -> str:
    """Makes a wheel of one module, `kwztiny` 1.0; returns its sha256."""
    folder.mkdir()
    path = folder / "kwztiny-1.0-py3-none-any.whl"
    info = "kwztiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("kwztiny.py", "SAID = 'hello'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: kwztiny\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("is_right", [True, False])
def test_what_the_image_lacks_is_installed_if_its_hash_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    from kwanzaa_compute.runs import boot as module

    sha256 = a_wheel(tmp_path / "index")
    lock = tmp_path / module.LOCK
    lock.parent.mkdir()
    locked = sha256 if is_right else "0" * 64
    lock.write_text(f"# a comment\nkwztiny==1.0 --hash=sha256:{locked}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    if is_right:
        (target,) = module.install_missing(tmp_path)
        assert (target / "kwztiny.py").exists()
        # What a run would like to have besides comes the same way; without it, it goes on.
        lock.rename(lock.with_name("requirements-wandb.lock"))
        lock.write_text("# nothing\n")
        monkeypatch.setenv("KWANZAA_EXTRAS", "wandb unheard-of")
        (extra,) = module.install_missing(tmp_path)
        assert (extra / "kwztiny.py").exists()
        lock.with_name("requirements-wandb.lock").write_text("none==9 --hash=sha256:00\n")
        assert module.install_missing(tmp_path) == []
    else:
        with pytest.raises(subprocess.CalledProcessError):
            module.install_missing(tmp_path)
        assert not (tmp_path / "packages" / "kwztiny.py").exists()
