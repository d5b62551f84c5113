"""The search for escaped credentials finds them: in files, output, argv and environments."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ESCAPES = {
    "a_file": """
        def test_it(tmp_path):
            (tmp_path / "log.txt").write_text(os.environ["HF_TOKEN"])
    """,
    "the_output": """
        def test_it():
            print(os.environ["AWS_SECRET_ACCESS_KEY"])
    """,
    "a_log": """
        def test_it():
            logging.getLogger().warning(os.environ["RUNPOD_API_KEY"])
    """,
    "an_argv": """
        def test_it():
            subprocess.run([sys.executable, "-c", "", os.environ["LAMBDA_API_KEY"]], check=True)
    """,
    "a_machine": """
        def test_it():
            words = [sys.executable, "-c", "", "kwanzaa_compute.drivers.local_machine"]
            os.waitpid(os.posix_spawn(sys.executable, words, dict(os.environ)), 0)
    """,
    "a_session_fixture": """
        @pytest.fixture(scope="session")
        def shared(tmp_path_factory):
            (tmp_path_factory.mktemp("shared") / "x.db-wal").write_bytes(
                b"\\x00" + os.environ["HF_TOKEN"].encode()
            )

        def test_it(shared):
            pass
    """,
}
NOTHING = """
    def test_it(tmp_path):
        (tmp_path / "log.txt").write_text("HF_TOKEN is set")
        subprocess.run([sys.executable, "-c", ""], check=True)
"""


def verdict(folder: Path, body: str) -> str:
    """What pytest says of a test with the project's own conftest above it."""
    from textwrap import dedent

    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    head = "import logging\nimport os\nimport subprocess\nimport sys\n\nimport pytest\n\n"
    (folder / "test_it.py").write_text(head + dedent(body))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--basetemp", folder / "temp", "test_it.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout


@pytest.mark.parametrize("where", ESCAPES)
def test_an_escaped_credential_is_found(where: str, tmp_path: Path) -> None:
    said = verdict(tmp_path, ESCAPES[where])
    assert "a credential escaped" in said
    # What the child left behind would alarm our own search as well.
    for name in ("temp", "conftest.py"):
        subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)


def test_a_test_that_tells_nothing_passes(tmp_path: Path) -> None:
    assert "1 passed" in verdict(tmp_path, NOTHING)
