"""Answers are generated in batches, counted, and told wherever the run's result is."""

import json
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config.evaluation import GenerationSection
from kwanzaa_compute.store.folder import ANSWER_SCHEMA
from kwanzaa_trainer.answering import Answerer, answer, judge
from kwanzaa_trainer.quality import Question
from kwanzaa_trainer.stopping import Stop

PROMPTS = ("a", "What is umoja?", "corn and cup and candle and mat", "Nia", "harvest of ujima")
ASKED = [Question(n, prompt, prompt, '{"answer": "x"}') for n, prompt in enumerate(PROMPTS, 1)]


@pytest.fixture(scope="module")
def model(torch: Any, base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def answered(model: Any, tokenizer: Any, **wishes: Any) -> list[str]:
    section = GenerationSection(max_new_tokens=12, **wishes)
    answerer = Answerer(model, tokenizer, section, seed=5, is_rendered=True)
    return answer(answerer, ASKED, lambda: True)


def test_answers_in_a_batch_are_those_that_are_given_one_by_one(model: Any, tokenizer: Any) -> None:
    alone = answered(model, tokenizer, batch_size=1)
    assert len(set(alone)) > 1
    assert answered(model, tokenizer, batch_size=3) == alone
    assert answered(model, tokenizer, batch_size=64) == alone


def test_sampled_answers_are_drawn_from_the_seed_alone(
    model: Any, tokenizer: Any, torch: Any
) -> None:
    wishes = {"do_sample": True, "temperature": 0.9, "top_p": 0.9}
    once = answered(model, tokenizer, **wishes)
    torch.rand(7)
    assert answered(model, tokenizer, **wishes) == once
    assert once != answered(model, tokenizer)


def test_where_answers_are_missing_no_target_is_missed_or_met() -> None:
    metrics, targets = ("json_valid_rate",), {"json_valid_rate": 0.9}
    assert judge(ASKED, ["{}", "-"], metrics, bool, targets)["missed"] is None
    assert judge(ASKED, ["-"] * 5, metrics, bool, targets)["missed"] == ["json_valid_rate"]
    result = judge(ASKED, ["{}"] * 5, metrics, bool, targets)
    assert result["missed"] == []
    assert result["of_reference"] == {"json_valid_rate": 1.0}


ANSWERS = {
    "training": {"max_steps": 1},
    "data": {"answer_schema_file": "schema.json"},
    "evaluation": {
        "metrics": ["loss", "json_valid_rate", "schema_compliance_rate"],
        "generation": {"max_new_tokens": 8, "batch_size": 2, "max_samples": 3},
    },
}


def test_a_missed_target_is_told_everywhere_and_the_adapter_delivered(make_run: Any) -> None:
    run = make_run(**ANSWERS)
    run.store.put(ANSWER_SCHEMA, b'{"required": ["answer"]}')
    assert run.train() == 0, run.complaints()
    found = run.done().summary["quality"]
    assert (found["asked"], found["answered"]) == (3, 3)
    assert found["rates"] == {"json_valid_rate": 0.0, "schema_compliance_rate": 0.0}
    assert found["targets"] == {"json_valid_rate": 0.95, "schema_compliance_rate": None}
    assert found["missed"] == ["json_valid_rate"]
    (event,) = run.events("quality")
    assert event["level"] == "warning"
    assert "json valid 0 % (target 95 %)" in event["message"]
    assert (
        "| json valid | 0.0 % (target 95 %, **missed**) |"
        in run.store.get("adapter/README.md").decode()
    )
    rows = run.store.get("attempts/1/answers.jsonl").splitlines()
    assert [json.loads(row)["line"] for row in rows] == [1, 2, 3]


class LateStop(Stop):
    """Asks for a stop as soon as the last checkpoint stands: while answers are generated."""

    def __init__(self, run: Any) -> None:
        self._run = run

    @property
    def reason(self) -> str:  # type: ignore[override]
        stands = self._run.store.exists("checkpoints/ckpt-1-1/manifest.json")
        return "the machine is taken back" if stands else ""


def test_a_stop_while_answers_are_generated_still_delivers_the_adapter(make_run: Any) -> None:
    run = make_run(**{k: v for k, v in ANSWERS.items() if k != "data"})
    assert run.train(stop=LateStop(run)) == 0, run.complaints()
    found = run.done().summary["quality"]
    assert found["answered"] < found["asked"]
    assert found["missed"] is None
    assert run.store.exists("adapter/adapter_model.safetensors")


def test_a_schema_that_is_none_ends_the_run_before_it_trains(make_run: Any) -> None:
    run = make_run(**ANSWERS)
    run.store.put(ANSWER_SCHEMA, b'{"type": "objekt"}')
    assert run.train() == 1
    assert "data.answer_schema_file" in run.folder.failure(1).message
    assert not run.folder.failure(1).retryable
    assert run.folder.metrics() == []
