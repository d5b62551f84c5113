"""The part of Dockerfile that the simulated Hub understands, and that it refuses the rest."""

from pathlib import PurePosixPath

import pytest

from kwanzaa_compute_huggingface.simulator.dockerfile import BuildError, build
from kwanzaa_compute_huggingface.space_files import space_files

FILES = {"app.py": b"1", "lib/a.py": b"2", "lib/deep/b.py": b"3"}


def test_our_own_space_can_be_built() -> None:
    files = space_files("kwz-me-r1-1", "pytorch/pytorch:tag")
    image = build(files["Dockerfile"].decode(), files)
    assert (image.base, image.argv) == ("pytorch/pytorch:tag", ["python3", "page.py"])
    assert image.files == {PurePosixPath("/app/page.py"): files["page.py"]}


def test_files_go_where_they_are_copied_to() -> None:
    image = build("FROM x\nWORKDIR /home/user\nCOPY --chown=user . app\nCMD a\n", FILES)
    assert image.files == {
        PurePosixPath("/home/user/app") / name: content for name, content in FILES.items()
    }
    image = build("FROM x\nCOPY app.py lib/a.py /opt/\nCMD a\n", FILES)
    assert sorted(map(str, image.files)) == ["/opt/a.py", "/opt/app.py"]
    image = build("FROM x\nCOPY lib /opt\nCMD a\n", FILES)
    assert sorted(map(str, image.files)) == ["/opt/a.py", "/opt/deep/b.py"]


def test_a_command_is_a_list_or_a_line() -> None:
    assert build('FROM x\nENTRYPOINT ["a"]\nCMD ["b", "c d"]\n', {}).argv == ["a", "b", "c d"]
    assert build("FROM x\nCMD a && \\\n  b\n", {}).argv == ["sh", "-c", "a &&    b"]


def test_variables_are_set_and_comments_ignored() -> None:
    image = build('# one\nFROM x\nENV A=1 B="two words"\nUSER 1000\nEXPOSE 7860\nCMD a\n', {})
    assert image.env == {"A": "1", "B": "two words"}


@pytest.mark.parametrize(
    ("dockerfile", "why"),
    [
        ("", "no build stage"),
        ("FROM x\n", "no command"),
        ("FROM x\nRUN make all\nCMD a\n", "unknown instruction: RUN make all"),
        ("FROM x\nFETCH y\nCMD a\n", "unknown instruction: FETCH y"),
        ("FROM x\nCOPY missing.py .\nCMD a\n", "not found"),
        ("FROM x\nCMD [oops\n", "not a list"),
    ],
)
def test_what_is_not_understood_is_a_build_error(dockerfile: str, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        build(dockerfile, FILES)


def test_what_an_image_would_install_is_taken_as_done() -> None:
    image = build("FROM x\nRUN pip install --no-cache-dir torch\nCMD a\n", {})
    assert "done by the image" in "\n".join(image.log)
