"""Rules about the text of the source: its size, what it never calls, and what it never names."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS_FILE = Path(__file__)
MAX_LINES = 400
BANNED_CALLS = {
    "torch.load": "unpickles: checkpoints are safetensors and JSON",
    "pickle.load": "runs code from a file",
    "pickle.loads": "runs code from a file",
    "yaml.load": "builds any Python object",
    "yaml.full_load": "builds any Python object",
    "yaml.unsafe_load": "builds any Python object",
    "os.system": "hands text to a shell",
}
BANNED_ARGUMENTS = {
    ("shell", True): "hands text to a shell",
    ("trust_remote_code", True): "runs a stranger's code",
    ("verify", False): "trusts whoever answers",
}
# Whatever takes a host key on sight, in the words of OpenSSH, paramiko and asyncssh.
TRUSTING = re.compile(
    r"AutoAddPolicy|WarningPolicy|StrictHostKeyChecking\W{1,6}(no|off|accept-new|ask)\b"
    r"|known_hosts\s*=\s*None|UserKnownHostsFile\W{1,6}/dev/null",
    re.IGNORECASE,
)
# A checkout lives anywhere: no file may count on the machine that it was written on.
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(work|root|opt/wheels)/|\.\./shared\b|(?<![\w.-])shared/")
MAY_NAME_THEM = {Path(".ci/run"), THIS_FILE.relative_to(ROOT)}


def tracked_files() -> list[Path]:
    """Every file that is in the repository or about to be; ignored ones are nobody's business."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = [ROOT / name for name in listing.split("\0") if name]
    return [file for file in files if file.is_file()]


FILES = tracked_files()
SOURCES = [file for file in FILES if file.suffix == ".py" and "src" in file.relative_to(ROOT).parts]


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_source_file_fits_into_one_sitting(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MAX_LINES


def banned_in(source: str) -> list[str]:
    """Every banned call in a Python source; what stands in strings and comments is only text."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = [BANNED_CALLS.get(ast.unparse(call.func)) for call in calls]
    found += [
        BANNED_ARGUMENTS.get((argument.arg, argument.value.value))
        for call in calls
        for argument in call.keywords
        if argument.arg and isinstance(argument.value, ast.Constant)
    ]
    return [reason for reason in found if reason]


@pytest.mark.parametrize(
    "source",
    ["torch.load(path)", "run('ls', shell=True)", "load(name, trust_remote_code=True)"],
)
def test_a_banned_call_is_seen(source: str) -> None:
    assert len(banned_in(source)) == 1


def test_nothing_makes_a_banned_call() -> None:
    guilty = {
        str(file.relative_to(ROOT)): found
        for file in FILES
        if file.suffix == ".py" and (found := banned_in(file.read_text()))
    }
    assert guilty == {}


def test_no_source_accepts_a_host_key_on_sight() -> None:
    assert [file.name for file in SOURCES if TRUSTING.search(file.read_text())] == []
    for known in ("-o StrictHostKeyChecking=no", '"StrictHostKeyChecking": "accept-new"'):
        assert TRUSTING.search(known)


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    guilty = []
    for file in FILES:
        if file.relative_to(ROOT) in MAY_NAME_THEM:
            continue
        try:
            lines = file.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        guilty += [
            f"{file.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, 1)
            if MACHINE_PATHS.search(line)
        ]
    assert guilty == []


def test_the_only_modules_without_a_meaning_are_absent() -> None:
    nameless = {"utils.py", "helpers.py", "base.py", "common.py", "misc.py", "manager.py"}
    assert [str(file) for file in SOURCES if file.name in nameless] == []
