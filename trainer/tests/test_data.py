"""What is learnt of a line, what is refused, and what is skipped."""

from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.errors import DataError
from kwanzaa_trainer.chat import chat_format
from kwanzaa_trainer.data import IGNORED, DataSet, Reader


@pytest.fixture
def fresh(tokenizer: Any) -> Any:
    """A tokenizer whose template a test may change."""
    import copy

    return copy.deepcopy(tokenizer)


def _read(
    tokenizer: Any, folder: Path, text: str | bytes, form: str = "chat_jsonl", **options: Any
) -> DataSet:
    path = folder / "data.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    chat = chat_format(tokenizer, options.get("system"))
    return Reader(tokenizer, chat, form, options.get("limit", 400)).read(path, "my/data.jsonl")


def _learnt(tokenizer: Any, data: DataSet, number: int = 0) -> list[str]:
    """The runs of tokens that are learnt, as text."""
    pieces: list[list[int]] = [[]]
    for label in data.samples[number].labels:
        if label == IGNORED:
            pieces.append([])
        else:
            pieces[-1].append(label)
    return [tokenizer.decode(piece) for piece in pieces if piece]


TWO_TURNS = (
    '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"},'
    ' {"role": "user", "content": "yes?"}, {"role": "assistant", "content": "no"}]}\n'
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
LAST_TURN_THINKS = (
    "{% for m in messages %}<{{ m.role }}>{% if loop.last and m.role == 'assistant' %}"
    "<think></think>{% endif %}{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_every_answer_is_learnt_with_its_end_and_nothing_else(fresh: Any, tmp_path: Path) -> None:
    data = _read(fresh, tmp_path, TWO_TURNS)
    assert _learnt(fresh, data) == ["yes<eos>", "no<eos>"]
    text = fresh.decode(data.samples[0].ids)
    assert text == (
        "<|user|>\nhi\n<|assistant|>\nyes<eos>\n<|user|>\nyes?\n<|assistant|>\nno<eos>\n"
    )


@pytest.mark.parametrize(
    ("template", "learnt"),
    [
        (CHATML, ["yes<|im_end|>", "no<|im_end|>"]),
        (THINKING, ["yes<|im_end|>", "no<|im_end|>"]),
        (NO_SYSTEM, ["yes<eos>", "no<eos>"]),
        (LAST_TURN_THINKS, ["yes</s>", "<think></think>no</s>"]),
    ],
    ids=["chatml", "opens thinking", "no system", "last turn differs"],
)
def test_answers_are_found_under_any_template(
    fresh: Any, tmp_path: Path, template: str, learnt: list[str]
) -> None:
    fresh.chat_template = template
    assert _learnt(fresh, _read(fresh, tmp_path, TWO_TURNS)) == learnt


@pytest.mark.parametrize("answer", ["s", "think", "<", "<|im_end|", "assistant", "</s>", "  a  "])
@pytest.mark.parametrize("template", [CHATML, THINKING, NO_SYSTEM, LAST_TURN_THINKS, None])
def test_answers_that_look_like_the_template_are_found_too(
    fresh: Any, tmp_path: Path, template: str | None, answer: str
) -> None:
    fresh.chat_template = template
    (learnt,) = _learnt(
        fresh, _read(fresh, tmp_path, TWO_TURNS.replace('"yes"', '"x"').replace("no", answer))
    )[1:]
    ends = {CHATML: "<|im_end|>", THINKING: "<|im_end|>", LAST_TURN_THINKS: "</s>"}
    start = "<think></think>" if template == LAST_TURN_THINKS else ""
    text = answer.strip() if template in (CHATML, THINKING) else answer
    assert learnt == f"{start}{text}{ends.get(template or '', '<eos>')}"


def test_the_system_prompt_is_put_before_chats_without_one(fresh: Any, tmp_path: Path) -> None:
    own = TWO_TURNS.replace('[{"role"', '[{"role": "system", "content": "own"}, {"role"', 1)
    data = _read(fresh, tmp_path, TWO_TURNS + own, system="general")
    texts = [fresh.decode(sample.ids) for sample in data.samples]
    assert texts[0].startswith("<|system|>\ngeneral\n<|user|>\nhi")
    assert texts[1].startswith("<|system|>\nown\n<|user|>\nhi")
    assert "general" not in texts[1]


def test_a_template_without_system_gets_it_in_the_first_question(
    fresh: Any, tmp_path: Path
) -> None:
    fresh.chat_template = NO_SYSTEM
    data = _read(fresh, tmp_path, TWO_TURNS, system="general")
    assert fresh.decode(data.samples[0].ids).startswith("[user] general\n\nhi[assistant] yes")


def test_a_completion_is_learnt_with_the_end_and_its_prompt_is_not(
    fresh: Any, tmp_path: Path
) -> None:
    line = '{"prompt": "Nia means ", "completion": "purpose"}\n'
    data = _read(fresh, tmp_path, line, "prompt_completion_jsonl")
    assert _learnt(fresh, data) == ["purpose<eos>"]
    assert fresh.decode(data.samples[0].ids) == "Nia means purpose<eos>"


def test_a_text_is_learnt_from_its_second_token_on(fresh: Any, tmp_path: Path) -> None:
    data = _read(fresh, tmp_path, '{"text": "Habari gani"}\n', "text_jsonl")
    assert _learnt(fresh, data) == ["abari gani<eos>"]


def test_letters_of_several_bytes_are_learnt_whole(fresh: Any, tmp_path: Path) -> None:
    line = '{"prompt": "é", "completion": "ñ✓"}\n'
    data = _read(fresh, tmp_path, line, "prompt_completion_jsonl")
    assert _learnt(fresh, data) == ["ñ✓<eos>"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b'{"messages": "\xff"}', "not JSON: it is not UTF-8"),
        (b"[1]", "it has no 'messages'"),
        (b'{"messages": []}', "not empty"),
        (b'{"messages": [{"role": "user"}]}', "message 1 must have 'role' and 'content'"),
        (b'{"messages": [{"role": "bot", "content": "x"}]}', "the role must be"),
        (b'{"messages": [{"role": "user", "content": 1}]}', "must be text"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "there must be an assistant"),
        (b'{"messages": [{"role": "assistant", "content": " "}]}', "none may be empty"),
    ],
)
def test_a_bad_line_is_named(fresh: Any, tmp_path: Path, line: bytes, said: str) -> None:
    with pytest.raises(DataError) as error:
        _read(fresh, tmp_path, TWO_TURNS.encode() + b"\n" + line + b"\n")
    assert error.value.message.startswith("my/data.jsonl:3: ")
    assert said in error.value.message


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("prompt_completion_jsonl", '{"prompt": "x", "completion": ""}'),
        ("prompt_completion_jsonl", '{"prompt": "x"}'),
        ("text_jsonl", '{"text": null}'),
    ],
)
def test_a_line_of_another_format_is_refused(
    fresh: Any, tmp_path: Path, form: str, line: str
) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl:1: "):
        _read(fresh, tmp_path, line, form)


def test_long_samples_are_skipped_and_counted(fresh: Any, tmp_path: Path) -> None:
    texts = ["a" * n for n in (5, 50, 5, 60, 5)]
    data = _read(
        fresh, tmp_path, "".join(f'{{"text": "{t}"}}\n' for t in texts), "text_jsonl", limit=20
    )
    assert len(data.samples) == 3
    assert data.skipped == (2, 4)
    assert data.skipped_words() == "2 samples are too long and skipped (lines 2, 4)"


def test_too_few_short_samples_are_an_error_that_names_the_key(fresh: Any, tmp_path: Path) -> None:
    texts = "".join(f'{{"text": "{"a" * n}"}}\n' for n in (5, 50, 60))
    with pytest.raises(DataError, match=r"only 1 of 3 .* data.max_seq_length = 20 .* has 61"):
        _read(fresh, tmp_path, texts, "text_jsonl", limit=20)


def test_an_empty_file_is_an_error(fresh: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample"):
        _read(fresh, tmp_path, "\n\n")


@pytest.mark.parametrize(
    ("form", "line", "question", "prompt"),
    [
        ("chat_jsonl", TWO_TURNS, "hi", "<|user|>\nhi\n<|assistant|>\n"),
        ("prompt_completion_jsonl", '{"prompt": "a", "completion": "b"}', "a", "a"),
        ("text_jsonl", '{"text": "abcdef"}', "abc", "abc"),
    ],
)
def test_the_first_prompt_ends_where_the_answer_begins(
    fresh: Any, tmp_path: Path, form: str, line: str, question: str, prompt: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(line)
    reader = Reader(fresh, chat_format(fresh, None), form, 400)
    assert reader.first_prompt(path, "d") == (question, prompt)
