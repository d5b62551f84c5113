"""The quickstart's dataset: what is committed is what the facts say, and every answer is sound."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

QUICKSTART = Path(__file__).resolve().parents[3] / "examples" / "quickstart"
SPLITS = ("train", "eval")
MAX_ANSWER_WORDS = 60
MAX_CHARACTERS = 1200


def load_script(name):
    spec = importlib.util.spec_from_file_location(f"quickstart_{name}", QUICKSTART / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their own module up while they are made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_data():
    return load_script("make_data")


@pytest.fixture(scope="module")
def lines():
    return {
        split: [
            json.loads(line)
            for line in (QUICKSTART / "data" / f"{split}.jsonl").read_text("utf-8").splitlines()
        ]
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def everything(lines):
    return [line for split in SPLITS for line in lines[split]]


def prompt_of(line):
    return line["messages"][1]["content"]


def reply_of(line):
    return json.loads(line["messages"][2]["content"])


def passages_in(line):
    return [int(number) for number in re.findall(r"^\[(\d+)\] ", prompt_of(line), re.MULTILINE)]


def texts_in(line):
    return re.findall(r"^\[\d+\] (.*)$", prompt_of(line), re.MULTILINE)


def share(lines, condition):
    return sum(map(condition, lines)) / len(lines)


def test_the_committed_files_are_what_the_facts_give(make_data):
    for name, content in make_data.render().items():
        assert (QUICKSTART / "data" / name).read_text("utf-8") == content


def test_the_check_passes_on_the_committed_files():
    command = [sys.executable, QUICKSTART / "make_data.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_enough_examples(lines):
    assert len(lines["train"]) >= 380
    assert len(lines["eval"]) >= 60


def test_every_line_is_a_chat_of_three_messages(everything):
    for line in everything:
        assert [m["role"] for m in line["messages"]] == ["system", "user", "assistant"]
        assert all(m["content"].strip() == m["content"] != "" for m in line["messages"])


def test_every_answer_is_compact_json_after_the_schema(everything):
    schema = json.loads((QUICKSTART / "data" / "answer.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for line in everything:
        reply = reply_of(line)
        assert list(validator.iter_errors(reply)) == [], reply
        compact = json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
        assert line["messages"][2]["content"] == compact


@pytest.mark.parametrize(
    "reply",
    [
        {"answer": "It is so.", "citations": [1], "status": "refused"},
        {"answer": "It is so.", "citations": [], "status": "partial"},
        {"answer": "It is so.", "citations": [0], "status": "answered"},
        {"answer": "It is so.", "citations": [1, 1], "status": "answered"},
        {"answer": "", "citations": [], "status": "answered"},
        {"answer": "It is so.", "citations": [], "status": "answered", "note": "more"},
        {"answer": "It is so.", "status": "answered"},
    ],
)
def test_the_schema_refuses_what_the_contract_forbids(reply):
    schema = json.loads((QUICKSTART / "data" / "answer.schema.json").read_text("utf-8"))
    assert not Draft202012Validator(schema).is_valid(reply)


def test_cited_passages_stand_in_the_prompt(everything):
    for line in everything:
        assert set(reply_of(line)["citations"]) <= set(passages_in(line)), prompt_of(line)


def test_an_answer_from_passages_cites_them(everything):
    for line in everything:
        reply = reply_of(line)
        if passages_in(line) and reply["status"] != "refused":
            assert reply["citations"], prompt_of(line)


def test_passages_are_numbered_from_one_and_differ(everything):
    for line in everything:
        numbers = passages_in(line)
        assert numbers == list(range(1, len(numbers) + 1))
        texts = texts_in(line)
        assert len(set(texts)) == len(texts)


def test_citations_are_not_all_of_the_first_passage(everything):
    cited = Counter(number for line in everything for number in reply_of(line)["citations"])
    assert min(cited[1], cited[2], cited[3]) >= 25


def test_no_prompt_comes_twice(everything):
    prompts = Counter(prompt_of(line).casefold() for line in everything)
    assert [prompt for prompt, count in prompts.items() if count > 1] == []


def test_topics_of_training_and_evaluation_are_disjoint(lines):
    train, held_out = ({line["topic"] for line in lines[split]} for split in SPLITS)
    assert train & held_out == set()
    assert len(train) >= 25
    assert len(held_out) >= 5


def test_no_passage_of_the_evaluation_is_seen_in_training(lines):
    train, held_out = (
        {text for line in lines[split] for text in texts_in(line)} for split in SPLITS
    )
    assert train & held_out == set()


@pytest.mark.parametrize("split", SPLITS)
def test_the_mix_is_what_the_data_card_says(lines, split):
    chosen = lines[split]
    assert 0.30 <= share(chosen, lambda line: bool(passages_in(line))) <= 0.45
    assert 0.18 <= share(chosen, lambda line: reply_of(line)["status"] == "refused") <= 0.25
    assert 0.05 <= share(chosen, lambda line: reply_of(line)["status"] == "partial") <= 0.10


def test_samples_are_short(everything):
    for line in everything:
        assert len(reply_of(line)["answer"].split()) <= MAX_ANSWER_WORDS
        assert sum(len(m["content"]) for m in line["messages"]) <= MAX_CHARACTERS


def test_a_line_that_cannot_be_read_is_named(make_data, tmp_path):
    (tmp_path / "bad.txt").write_text("# topic: one | train\n? Why?\n! Why => No.\n~ Why\n")
    with pytest.raises(ValueError, match=r"bad\.txt:4: "):
        make_data.read_topics(tmp_path)


def test_the_data_card_gives_the_numbers_of_the_files(lines):
    card = (QUICKSTART / "data" / "DATA_CARD.md").read_text("utf-8")
    for split in SPLITS:
        chosen = lines[split]
        statuses = Counter(reply_of(line)["status"] for line in chosen)
        with_passages = sum(bool(passages_in(line)) for line in chosen)
        numbers = [len(chosen), len({line["topic"] for line in chosen}), with_passages]
        numbers += [statuses[status] for status in ("answered", "partial", "refused")]
        row = " | ".join([f"`{split}.jsonl`", *map(str, numbers)])
        assert f"| {row} |" in card
