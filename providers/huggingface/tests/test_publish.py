"""An adapter on the Hub: complete, private, sent once, loadable, and without the token."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.compute import Compute, Options, Run
from kwanzaa_compute.compute.publishing import publish
from kwanzaa_compute.errors import CredentialsError, TransientError, UsageError
from kwanzaa_compute.testing.loopback.wire import Reply
from kwanzaa_compute_huggingface import hub as hub_module
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN
from kwanzaa_compute_huggingface.simulator.repositories import Repository

# huggingface_hub 2.4 hands large files to its HTTP client in a way that this one calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "loopback/my-adapter"
WEIGHTS = "adapter_model.safetensors"
CONFIG = """\
run: {{name: published, seed: 7, logging_steps: 1}}
model: {{base_model_id: {base}}}
data: {{train_file: train.jsonl, max_seq_length: 256}}
adapter: {{lora: {{r: 4, dropout: 0.0}}}}
training: {{max_steps: 2, per_device_train_batch_size: 2, gradient_accumulation_steps: 1}}
"""
LOADS = """\
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(base, sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
print(model.peft_config["default"].r, len(tokenizer) > 100)
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny run has been trained for real, with its ledger."""
    folder = tmp_path_factory.mktemp("published")
    rows = []
    for n in range(12):
        asked = {"role": "user", "content": f"What is {n} and {n}?"}
        rows.append({"messages": [asked, {"role": "assistant", "content": f"It is {2 * n}."}]})
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    make = [sys.executable, "-m", "kwanzaa_trainer.tiny", str(folder / "base"), str(data)]
    subprocess.run(make, check=True, capture_output=True)
    (folder / "training.yaml").write_text(CONFIG.format(base=folder / "base"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    compute = Compute(home=folder / "home", environment=environment)
    run = compute.train(folder / "training.yaml", Options(providers=("local",)))
    run.wait()
    compute.ledger.close()
    return folder


@pytest.fixture
def environment(hub: HubSimulator) -> dict[str, str]:
    return {**os.environ, **hub.environment, "HF_ENDPOINT": hub.endpoint}


@pytest.fixture
def compute(project: Path, environment: dict[str, str]):
    compute = Compute(home=project / "home", environment=environment)
    yield compute
    compute.ledger.close()


@pytest.fixture
def run(compute: Compute) -> Run:
    return compute.runs()[0]


@pytest.fixture
def send(compute: Compute, run: Run) -> Callable[..., str]:
    """`send()` publishes the run; its output, by the way."""

    def send(**words: object) -> list[str]:
        said: list[str] = []
        publish(compute, run, NAME, say=said.append, **words)
        return said

    return send


def repository(hub: HubSimulator) -> Repository:
    return hub.repositories.all["model", NAME]


def test_it_is_all_there_private_and_with_a_card_of_what_it_took(
    hub: HubSimulator, run: Run, send: Callable[..., list[str]], project: Path
) -> None:
    send()
    there = repository(hub)
    assert there.private
    assert set(there.files) >= {WEIGHTS, "adapter_config.json", "README.md", "checksums.json"}
    adapter = run.folder.store.get(f"adapter/{WEIGHTS}")
    assert there.files[WEIGHTS].content == adapter
    card = there.files["README.md"].content.decode()
    summary = run.done.summary
    for told in (
        summary["train_data_sha256"],
        summary["base_sha256"],
        f"PeftModel.from_pretrained(base, '{NAME}')",
        f"| Hours | {run.receipt.hours:.2f} |",
        "| Cost | $0.00 |",
        "| Energy | unknown |",
        "| Machines | CPU |",
        "| Learning rate | 0.0002 |",
    ):
        assert told in card
    assert str(project) not in card
    known = json.loads(there.files["checksums.json"].content)
    assert known["README.md"] == there.files["README.md"].sha256


def test_it_loads_with_peft_and_transformers_and_hf_downloads_it(
    hub: HubSimulator, send: Callable[..., list[str]], project: Path, tmp_path: Path
) -> None:
    send()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-c", LOADS, str(project / "base"), NAME]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["4", "True"], done.stderr
    hf = Path(sys.executable).with_name("hf")
    fetch = [hf, "download", NAME, "--local-dir", tmp_path / "copy"]
    done = subprocess.run(fetch, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, file in repository(hub).files.items():
        assert (tmp_path / "copy" / name).read_bytes() == file.content


def puts_of_large_files(hub: HubSimulator) -> int:
    return len([r for r, _ in hub.repositories._large.server.exchanges if r.method == "PUT"])


def test_again_it_sends_nothing_twice_and_updates_what_has_changed(
    hub: HubSimulator, send: Callable[..., list[str]], tmp_path: Path
) -> None:
    send()
    commits, sent = len(repository(hub).commits), puts_of_large_files(hub)
    assert sent > 0
    before = {n: f.sha256 for n, f in repository(hub).files.items()}
    send()
    assert {n: f.sha256 for n, f in repository(hub).files.items()} == before
    assert len(repository(hub).commits) == commits
    repository(hub).files["README.md"].content = b"somebody else's"
    send()
    assert len(repository(hub).commits) == commits + 1
    assert repository(hub).files["README.md"].content != b"somebody else's"
    assert puts_of_large_files(hub) == sent


def test_interrupted_before_its_commit_it_goes_on_without_sending_again(
    hub: HubSimulator, send: Callable[..., list[str]]
) -> None:
    hub.server.interrupt("POST", r"/api/models/.*/commit/.*", Reply(401, {"error": "revoked"}))
    with pytest.raises(CredentialsError, match="refuses the token"):
        send()
    assert WEIGHTS not in repository(hub).files
    sent = puts_of_large_files(hub)
    assert sent > 0
    send()
    assert WEIGHTS in repository(hub).files
    assert puts_of_large_files(hub) == sent


def test_public_only_when_it_is_said(hub: HubSimulator, send: Callable[..., list[str]]) -> None:
    send()
    assert repository(hub).private
    send(private=False)
    assert not repository(hub).private
    with pytest.raises(UsageError, match="everybody can see"):
        send()


def test_a_repository_of_ones_own_needs_only_its_name(
    hub: HubSimulator, compute: Compute, run: Run
) -> None:
    (one,) = publish(compute, run, "my-adapter")
    assert one.url == f"{hub.endpoint}/{NAME}"
    assert one.revision == repository(hub).commits[-1]
    with pytest.raises(UsageError, match="no repository is named"):
        publish(compute, run)


def test_a_silent_hub_is_given_up(
    hub: HubSimulator, send: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(hub.server, "_handle", lambda _request: let_go.wait(60))
    monkeypatch.setattr(hub_module.Hub.__init__, "__kwdefaults__", {"call_s": 0.5})
    try:
        with pytest.raises(TransientError, match="did not answer in time"):
            send()
    finally:
        let_go.set()


def test_the_token_is_nowhere(
    hub: HubSimulator, environment: dict[str, str], project: Path, run: Run
) -> None:
    environment["KWANZAA_HOME"] = str(project / "home")
    words = [sys.executable, "-m", "kwanzaa_compute", "publish", run.id, "--repo", NAME, "--debug"]
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.endpoint}/{NAME}"
    hub.tokens.clear()
    refused = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 3, refused.stderr
    for text in (done.stdout, done.stderr, refused.stdout, refused.stderr):
        assert TOKEN not in text
    for file in repository(hub).files.values():
        assert TOKEN.encode() not in file.content


def test_without_a_token_it_says_where_to_get_one(project: Path, run: Run) -> None:
    compute = Compute(home=project / "home", environment={})
    with pytest.raises(CredentialsError, match="no Hugging Face token") as refused:
        publish(compute, run, NAME)
    assert "HF_TOKEN" in refused.value.mend
