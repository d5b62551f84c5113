"""What a reply is worth: each metric's definition, and its targets. No torch."""

import json
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.errors import ConfigError
from kwanzaa_trainer.answer_schema import compliance
from kwanzaa_trainer.quality import Question, count, missed, rates, read_reply

DOCUMENTS = (
    "[1] Harvest songs\nURL: https://example.org/songs\n\n[2] First fruits\nURL: https://example.org/fruits\n\n"
    "Query: what is sung [7] at the harvest?"
)
METRICS = (
    "json_valid_rate",
    "schema_compliance_rate",
    "citation_coverage_rate",
    "citation_accuracy_rate",
    "refusal_correctness_rate",
    "retrieval_groundedness_rate",
)


def contract(
    text: str, completeness: str = "complete", sources: tuple[str, ...] = (), **more: Any
) -> str:
    answer = {"text": text, "completeness": completeness}
    listed = [{"canonical_url": url} for url in sources]
    return json.dumps({"answer": answer, "sources": listed} | more)


ANSWERED = contract("Songs [1]", sources=("https://example.org/songs",))
REFUSED = contract("Nothing is known.", "insufficient_data")


def counts(reply: str, reference: str = ANSWERED, asked: str = DOCUMENTS) -> dict[str, Any]:
    question = Question(1, "", asked, reference)
    return count([question], [reply], METRICS, lambda value: "sources" in value)


def test_the_sample_s_own_answer_reaches_every_metric() -> None:
    assert set(rates(counts(ANSWERED)).values()) == {1.0}


@pytest.mark.parametrize(
    ("reply", "is_json"),
    [
        ('{"a": 1}', True),
        ('Here it is:\n```json\n{"a": {"b": 2}}\n```\nDone.', True),
        ('{"a": {"b": 2}, "c": "torn', False),
        ("[1, 2]", False),
        ('{"a": NaN}', False),
        ("no object", False),
        ("", False),
        ('{"a":' * 100_000, False),
    ],
)
def test_a_reply_is_json_where_an_object_begins_at_its_first_brace(
    reply: str, is_json: bool
) -> None:
    assert (read_reply(reply).document is not None) is is_json
    assert counts(reply)["json_valid_rate"] == (int(is_json), 1)


def test_json_that_breaks_the_schema_and_no_json_at_all_are_not_compliant() -> None:
    assert counts('{"answer": {"text": "x"}}')["schema_compliance_rate"] == (0, 1)
    assert counts("prose")["schema_compliance_rate"] == (0, 1)


@pytest.mark.parametrize(
    ("text", "covered", "accurate"),
    [
        ("Songs [1] and fruits [2]", 1, (2, 2)),
        ("Songs [1, 3]", 1, (1, 2)),
        ("Songs [7]", 1, (0, 1)),  # 7 stands in the question, but is no document
        ("Songs", 0, (0, 0)),
        ("Songs [see below]", 0, (0, 0)),
    ],
)
def test_citations_are_covered_where_there_is_one_and_accurate_where_the_document_was_given(
    text: str, covered: int, accurate: tuple[int, int]
) -> None:
    found = counts(contract(text))
    assert found["citation_coverage_rate"] == (covered, 1)
    assert found["citation_accuracy_rate"] == accurate


def test_only_the_answer_s_own_text_is_searched_for_citations() -> None:
    reply = contract("Songs", note="[1]")
    assert counts(reply)["citation_coverage_rate"] == (0, 1)


def test_a_sample_without_documents_or_one_that_refuses_owes_no_citation() -> None:
    for found in (counts(ANSWERED, asked="Query: hello"), counts(REFUSED, reference=REFUSED)):
        assert found["citation_coverage_rate"] == (0, 0)
        assert found["retrieval_groundedness_rate"] == (0, 0)
        assert rates(found)["citation_coverage_rate"] is None


@pytest.mark.parametrize(
    ("reply", "reference", "is_right"),
    [
        (REFUSED, REFUSED, True),
        (ANSWERED, ANSWERED, True),
        (REFUSED, ANSWERED, False),
        (ANSWERED, REFUSED, False),
        ("I cannot answer that: the documents do not contain any information.", REFUSED, True),
        ("It cannot be said enough: songs [1].", ANSWERED, True),
        # What the object says of itself counts, whatever its words.
        (contract("There is not enough information on drums, but songs [1]."), ANSWERED, True),
    ],
)
def test_a_refusal_is_right_exactly_where_the_sample_refuses(
    reply: str, reference: str, is_right: bool
) -> None:
    assert counts(reply, reference)["refusal_correctness_rate"] == (int(is_right), 1)


@pytest.mark.parametrize(
    ("reply", "is_grounded"),
    [
        (contract("Songs [1]", sources=("https://example.org/songs",)), True),
        (contract("Songs [1]"), True),
        (contract("Songs", sources=("https://example.org/fruits",)), True),
        (contract("Songs"), False),
        (contract("Songs [1] [9]"), False),
        (contract("Songs [1]", sources=("https://example.org/invented",)), False),
        (contract("Songs [1]", sources=("",)), False),
        ("Songs [2]", True),
    ],
)
def test_a_reply_is_grounded_where_it_names_given_documents_and_invents_none(
    reply: str, is_grounded: bool
) -> None:
    assert counts(reply)["retrieval_groundedness_rate"] == (int(is_grounded), 1)


def test_a_target_is_missed_below_it_and_not_by_what_was_not_measured() -> None:
    found = {"a": 0.849, "b": 0.85, "c": None, "d": 0.0}
    targets = {"a": 0.85, "b": 0.85, "c": 0.85, "d": None}
    assert missed(found, targets) == ["a"]


def test_the_schema_names_its_own_draft_and_formats_count(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"when": {"type": "string", "format": "date"}},
        "required": ["when"],
        "properties": {"when": {"$ref": "#/definitions/when"}},
    }
    path.write_text(json.dumps(schema))
    follows = compliance(path)
    assert follows({"when": "2026-01-31"})
    assert not follows({"when": "2026-01-32"})
    assert not follows({})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"type": "objekt"}', "not a JSON Schema"),
        ('{"properties": {"a": {"$ref": "#/definitions/gone"}}}', "gone"),
        ('{"$ref": "http://127.0.0.1:9/schema.json"}', "127.0.0.1"),
    ],
)
def test_what_is_no_schema_is_refused_before_the_training_and_nothing_is_fetched(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "schema.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        compliance(path)


def test_the_real_answers_are_all_grounded_and_one_in_eight_breaks_its_own_contract(
    real_inputs: Path,
) -> None:
    follows = compliance(real_inputs / "answer_json.schema.json")
    questions = []
    for line in (real_inputs / "kwanzaa_train.jsonl").read_text().splitlines():
        *before, last = json.loads(line)["messages"]
        asked = "\n\n".join(message["content"] for message in before)
        questions.append(Question(len(questions) + 1, "", asked, last["content"]))
    found = count(questions, [q.reference for q in questions], METRICS, follows)
    assert found == {
        "json_valid_rate": (107, 107),
        "schema_compliance_rate": (94, 107),
        "citation_coverage_rate": (72, 79),
        "citation_accuracy_rate": (229, 229),
        "refusal_correctness_rate": (107, 107),
        "retrieval_groundedness_rate": (79, 79),
    }
