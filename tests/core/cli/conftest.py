"""The command line as users have it: real files, a real ledger, the real local driver."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.cli import main
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.store import Done
from kwanzaa_compute.store.objects import file_sha256

SHAPE = {
    "model_type": "olmo",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 512,
}
CONFIG = """\
run:
  name: tiny
  dataloader_num_workers: 2
model:
  base_model_id: ./base
data:
  train_file: train.jsonl
  format: chat_jsonl
  max_seq_length: 64
training:
  num_train_epochs: 1
"""
MOONBASE = '''\
"""A provider that rents one machine, never has one left, and lies about ending those it rented."""

import os
import time
from decimal import Decimal
from pathlib import Path

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import Deadline, Feature, Phase, ProviderInfo, Sighting
from kwanzaa_compute.drivers.plugins import hookimpl
from kwanzaa_compute.errors import CapacityError
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Availability, Offer

FEATURES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE})


@hookimpl
def kwanzaa_providers():
    return [
        ProviderInfo(
            "moonbase",
            "Moonbase",
            "moonbase:Driver",
            console_url="https://moonbase.invalid/machines",
            store_schemes=("file",),
            settle_s=0.0,
            deadline=Deadline.BY_WATCHER,
            features=FEATURES,
            environment=("MOONBASE_KEY",),
            simulated=True,
        )
    ]


class Driver:
    features = FEATURES

    def __init__(self, context):
        self.rented = Path(context.environment["KWANZAA_HOME"]) / "moonbase"

    def offers(self):
        yield Offer(
            provider="moonbase",
            id="l4",
            gpu=find_gpu("L4"),
            usd_per_hour=Decimal("1.00"),
            availability=Availability.AVAILABLE,
            source="a test",
            as_of=iso(time.time()),
        )

    def launch(self, job, offer):
        raise RuntimeError("sold out")

    def inspect(self, machine_id):
        return Sighting(machine_id, Phase.RUNNING, machine_id)

    def fleet(self):
        names = os.listdir(self.rented) if self.rented.is_dir() else []
        return [Sighting(name, Phase.RUNNING, name) for name in names]

    def terminate(self, machine_id):
        pass

    def classify(self, error):
        return CapacityError(str(error), nothing_was_created=True)
'''


@dataclass(frozen=True, slots=True)
class Result:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test's own, and nothing of the real user's environment."""
    for name in list(os.environ):
        if name.startswith("KWANZAA_") and name != "KWANZAA_CI":
            monkeypatch.delenv(name)
    for info in discover().providers.values():
        for name in info.environment:  # no provider of the real user's is asked for anything
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KWANZAA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    # What runs in this process looks again at once; real processes keep their pace.
    monkeypatch.setattr("kwanzaa_compute.compute.run.POLL_OWN_MACHINE_S", 0.05)
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("runs", "--json")` runs a command line in this process."""

    def run(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return run


@pytest.fixture
def command(home: Path) -> Callable[..., list[str]]:
    """`command("runs")` is the command line for a process of its own."""
    return lambda *words: [sys.executable, "-m", "kwanzaa_compute", *map(str, words)]


@pytest.fixture
def start(command: Callable[..., list[str]]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start("watch")` starts a process whose output can be read while it runs."""
    with ExitStack() as stack:

        def popen(*words: object) -> subprocess.Popen[str]:
            pipe = subprocess.PIPE
            child = subprocess.Popen(command(*words), stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield popen


@pytest.fixture
def snapshot_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands begin on the day of the bundled prices, whenever the test runs: prices age."""
    later = time.time() - datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    defaults = (lambda: time.time() - later, time.monotonic, time.sleep)
    monkeypatch.setattr(Clock.__init__, "__defaults__", defaults)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A training.yaml with data, and a base model that is good enough to plan with."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SHAPE))
    sample = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "!"}]
    }
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(sample)}\n" * 8)
    path = tmp_path / "training.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def moonbase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A driver package of somebody else's, installed: its provider costs a dollar an hour."""
    folder = tmp_path / "site"
    about = folder / "moonbase-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "moonbase.py").write_text(MOONBASE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: moonbase\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[kwanzaa_compute]\nmoonbase = moonbase\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "moonbase", raising=False)
    return "moonbase"


@pytest.fixture
def prepared(home: Path, config: Path, tmp_path: Path) -> Callable[[], kc.Run]:
    """Makes runs in the ledger and the store that have not been launched."""

    def prepare() -> kc.Run:
        compute = kc.Compute()
        options = kc.Options(
            providers=("local",), overrides={"artifacts.output_dir": str(tmp_path / "adapter")}
        )
        return compute.prepare(compute.plan(config, options))

    return prepare


@pytest.fixture
def learn(tmp_path: Path) -> Callable[[kc.Run], kc.Run]:
    """Completes a run's adapter in the store: its trainer has nothing left to do."""

    def complete(run: kc.Run) -> kc.Run:
        weights = tmp_path / "weights"
        weights.write_bytes(b"weights")
        run.folder.store.upload(weights, "adapter/adapter_model.safetensors")
        summary = {
            "eval_loss_first": 2.0,
            "eval_loss_best": 1.0,
            "eval_loss_last": 1.5,
            "adapter_step": 4,
            "steps": 8,
            "train_s": 3.0,
            "perplexity": float("nan"),
            "quality": {
                "asked": 4,
                "answered": 4,
                "rates": {"json_valid_rate": 1.0, "citation_coverage_rate": 0.5, "x\x1b[31m": None},
                "targets": {"json_valid_rate": 0.95, "citation_coverage_rate": 0.85},
                "missed": ["citation_coverage_rate"],
            },
            "sample": {"question": "Q?", "base": "hm", "adapter": "\x1b[31mA!\x1b]0;t\x07\n."},
        }
        files = {"adapter_model.safetensors": file_sha256(weights)}
        run.folder.put_done(Done(attempt=1, step=8, files=files, summary=summary))
        return run

    return complete


@pytest.fixture
def learnt(prepared: Callable[[], kc.Run], learn: Callable[[kc.Run], kc.Run]) -> kc.Run:
    """A run whose adapter is complete in the store already."""
    return learn(prepared())
