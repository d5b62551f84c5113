"""The quickstart's tiny base: made by a fixed recipe, the same each time, and not of Kwanzaa."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).resolve().parents[3] / "examples" / "quickstart"
WIDTHS = ("hidden_size", "intermediate_size", "vocab_size")
SECRET_WORDS = ("kwanzaa", "karenga", "kinara", "umoja", "ujima", "imani", "swahili", "json")


def make_base(folder, *, steps):
    command = [sys.executable, QUICKSTART / "make_base.py", "--output", folder]
    done = subprocess.run(
        [*command, "--steps", str(steps)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "tiny"
    return folder, make_base(folder, steps=2)


def test_the_corpus_speaks_of_other_things_than_the_fine_tuning_data():
    code = (
        "import corpus; print(*corpus.prose(), *(m['content'] for c in corpus.chats() for m in c))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=QUICKSTART
    )
    text = done.stdout.casefold()
    assert len(text) > 500_000
    # Whole words: an invented one may hold another by chance.
    assert set(re.findall(r"\w+", text)) & set(SECRET_WORDS) == set()
    assert "{" not in text


@pytest.mark.slow
def test_a_base_is_an_olmo_whose_widths_4_bit_kernels_take(made):
    folder, _ = made
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "olmo"
    assert [config[width] % 64 for width in WIDTHS] == [0, 0, 0]
    assert config["max_position_embeddings"] >= 2048


@pytest.mark.slow
def test_its_chat_template_closes_every_turn(made):
    from tokenizers import Tokenizer

    folder, _ = made
    template = (folder / "chat_template.jinja").read_text()
    assert "<|end|>" in template
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "<|user|>Was heißt „Umoja“?<|end|><|assistant|>"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.token_to_id("<|end|>") in ids


@pytest.mark.slow
def test_the_finishing_line_says_where_the_base_is(made):
    folder, said = made
    assert "step 2/2  loss " in said
    assert f"tiny base in {folder}, made in " in said.splitlines()[-1]


@pytest.mark.slow
def test_a_finished_base_is_left_alone(made):
    folder, _ = made
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert "already holds this base" in make_base(folder, steps=2)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_another_recipe_is_not_taken_for_it_and_the_same_one_gives_the_same_bytes(made, tmp_path):
    folder, _ = made
    again = tmp_path / "again"
    again.mkdir()
    other = json.loads((folder / "recipe.json").read_text()) | {"recipe_sha256": "another"}
    (again / "recipe.json").write_text(json.dumps(other))
    assert "made in" in make_base(again, steps=2)
    names = sorted(path.name for path in folder.iterdir())
    assert "recipe.json" in names
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


def test_a_base_that_was_not_finished_is_none(tmp_path):
    for number, left in enumerate(("{", "[]", "{}")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "recipe.json").write_text(left)
    code = (
        "import sys; from pathlib import Path; import make_base;"
        "print(*(make_base.is_made(Path(folder), 'a recipe') for folder in sys.argv[1:]))"
    )
    folders = [str(tmp_path / name) for name in ("0", "1", "2", "nothing")]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders],
        capture_output=True,
        text=True,
        check=True,
        cwd=QUICKSTART,
    )
    assert done.stdout.split() == ["False"] * 4
