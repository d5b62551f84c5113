"""The quickstart as `make demo` runs it, and what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The demo's base, and what the command says in the end."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "KWANZAA_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    base = folder / "base"
    make_base = [sys.executable, str(quickstart / "make_base.py"), "--output", str(base)]
    subprocess.run(make_base, check=True, capture_output=True, env=environment)
    train = [sys.executable, "-m", "kwanzaa_compute", "train", str(quickstart / "training.yaml")]
    done = subprocess.run(
        [*train, "--provider", "local", "--yes", "--json", "--base-model", str(base)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def summary(demo: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """What the run says of itself in its done marker."""
    found = next((demo[0] / "home" / "store" / "runs").glob("*/done.json"))
    summary: dict[str, Any] = json.loads(found.read_text())["summary"]
    return summary


def test_the_loss_on_unseen_topics_falls_by_a_fifth_at_least(summary: dict[str, Any]) -> None:
    assert summary["eval_loss_last"] <= 0.8 * summary["eval_loss_first"]


def test_the_adapter_answers_in_the_contract_and_the_base_does_not(
    summary: dict[str, Any], quickstart: Path
) -> None:
    import jsonschema

    schema = json.loads((quickstart / "data" / "answer.schema.json").read_text())
    jsonschema.validate(json.loads(summary["sample"]["adapter"]), schema)
    with pytest.raises(json.JSONDecodeError):
        json.loads(summary["sample"]["base"])


def test_the_receipt_is_free_and_complete(demo: tuple[Path, dict[str, Any]]) -> None:
    receipt = demo[1]["receipt"]
    assert receipt["state"] == "done"
    assert float(receipt["usd"]) == float(receipt["open_usd_per_hour"]) == 0
    assert len(receipt["lines"]) == 1


def test_the_adapter_loads_with_plain_peft_and_changes_the_answers(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    folder = demo[0]
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(folder / "base")("What is Umoja?", return_tensors="pt")
    with torch.no_grad():
        before = base(**tokens).logits
        model = PeftModel.from_pretrained(base, folder / "outputs" / "quickstart")
        after = model(**tokens).logits
        with model.disable_adapter():
            again = model(**tokens).logits
    assert not torch.allclose(before, after)
    assert torch.equal(before, again)
