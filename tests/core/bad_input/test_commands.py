"""`init`, `validate` and `doctor`: they explain, they never guess, they leave nothing behind."""

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.cli import initialising, main
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import checks as checklist
from kwanzaa_compute.compute.checks import State
from kwanzaa_compute.compute.diagnosis import FLOORS, below_floor, diagnose
from kwanzaa_compute.config import load
from kwanzaa_compute.drivers.contract import Feature, Phase, ProviderInfo, Sighting
from kwanzaa_compute.drivers.plugins import Catalogue, discover
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.testing.samples import sample_attempt, sample_run

CHAT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "!"}]}\n'


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("KWANZAA_HOME", str(folder / "home"))
    monkeypatch.delenv("KWANZAA_STORE", raising=False)
    # Nobody set up a provider here: one that is asked and cannot answer is asked for seconds.
    for info in discover().providers.values():
        for name in info.environment:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)

    def run(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


# ---- init ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (CHAT, "chat_jsonl"),
        ('{"prompt": "a", "completion": "b"}\n', "prompt_completion_jsonl"),
        ('\ufeff\n{"text": "a"}\n', "text_jsonl"),
    ],
)
def test_init_writes_a_config_that_loads_and_validates(
    cli: Cli, folder: Path, line: str, form: str
) -> None:
    (folder / "train.jsonl").write_text(line.replace("\ufeff\n", "\ufeff"))
    said = cli("init", "new.yaml", "--yes", "--base-model", "base", "--max-usd", "7.50")
    assert said.code == 0, said.err
    config = load(folder / "new.yaml").config
    assert config.data.format == form
    assert config.model.base_model_id == "./base"
    assert config.compute.max_usd == Decimal("7.50")
    assert "local CPU" in said.out, "a first plan"
    assert cli("validate", "new.yaml").code == 0


def test_init_never_overwrites(cli: Cli, folder: Path) -> None:
    before = (folder / "training.yaml").read_bytes()
    said = cli("init", "--yes")
    assert said.code == 2
    assert "training.yaml exists already" in said.err
    assert (folder / "training.yaml").read_bytes() == before


def test_init_asks_four_questions_and_takes_the_answers(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other.jsonl").write_text(CHAT)
    answers = iter(["./base\n", "other.jsonl\n", "$3\n"])
    monkeypatch.setattr(initialising.Screen, "can_ask", True, raising=False)
    monkeypatch.setattr(initialising.Screen, "__init__", _can_ask)
    monkeypatch.setattr(sys, "stdin", type("Lines", (), {"readline": lambda _: next(answers)})())
    said = cli("init", "new.yaml")
    assert said.code == 0, said.err
    config = load(folder / "new.yaml").config
    assert (config.data.train_file, str(config.compute.max_usd)) == ("other.jsonl", "3")
    assert "base model [allenai/OLMo-7B-Instruct-hf]: " in said.err


def _can_ask(self: Any, *, as_json: bool = False) -> None:
    self.as_json, self.is_live, self.can_ask = as_json, False, True


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (None, "cannot be read"),
        ("{\n", "is not JSON"),
        ("", "is not JSON"),
        ('{"a": 1}\n', "has neither messages, prompt nor text"),
        ("[1]\n", "has neither messages, prompt nor text"),
        (CHAT + "{}\n", "train.jsonl:2: needs 'messages'"),
    ],
)
def test_init_writes_nothing_for_data_that_it_does_not_understand(
    cli: Cli, folder: Path, data: str | None, phrase: str
) -> None:
    (folder / "train.jsonl").unlink()
    if data is not None:
        (folder / "train.jsonl").write_text(data)
    said = cli("init", "new.yaml", "--yes")
    assert said.code == 2
    assert phrase in said.err
    assert not (folder / "new.yaml").exists()


def test_init_does_not_ask_where_nobody_answers(cli: Cli, folder: Path) -> None:
    said = cli("init", "new.yaml")
    assert said.code == 2
    assert "--yes" in said.err
    assert not (folder / "new.yaml").exists()


def test_init_says_where_it_cannot_write(cli: Cli) -> None:
    said = cli("init", "none/new.yaml", "--yes", "--train-file", "train.jsonl")
    assert said.code == 2
    assert "cannot be written" in said.err


# ---- validate ------------------------------------------------------------------------------------


def points(said: Said) -> dict[str, dict[str, str]]:
    return {check["what"]: check for check in json.loads(said.out)["checks"]}


def test_validate_names_every_point_and_each_open_one_has_its_fix(cli: Cli, folder: Path) -> None:
    said = cli("validate", "training.yaml", "--json")
    assert said.code == 0
    found = points(said)
    wanted = {"config", "training data", "base model", "output folder", "store", "disk", "plan"}
    assert wanted | {"test run", "checkpoints", "base unchanged"} <= found.keys()
    assert [c for c in found.values() if c["state"] != "ok" and not c["mend"]] == []
    assert kc.Compute(home=folder / "home").runs() == []
    assert list((folder / "home" / "store").glob("validate-*")) == [], "it tidies up"


@pytest.mark.parametrize(
    ("damage", "point"),
    [
        (lambda folder: (folder / "training.yaml").write_text("a: 1\n"), "config"),
        (lambda folder: (folder / "train.jsonl").write_text("{}\n"), "training data"),
        (lambda folder: (folder / "train.jsonl").unlink(), "data"),
        (lambda folder: (folder / "base" / "config.json").unlink(), "base model"),
        (lambda folder: (folder / "outputs").write_text("a file"), "output folder"),
        (lambda folder: (folder / "home").mkdir() or (folder / "home/store").touch(), "store"),
    ],
)
def test_validate_says_which_point_fails(
    cli: Cli, folder: Path, damage: Callable[[Path], object], point: str
) -> None:
    damage(folder)
    said = cli("validate", "training.yaml", "--json")
    assert said.code != 0
    check = points(said)[point]
    assert (check["state"], bool(check["found"])) == ("fail", True)


def test_validate_tells_a_silent_hub_and_a_missing_token(folder: Path) -> None:
    config = folder / "training.yaml"
    config.write_text(config.read_text().replace("./base", "allenai/OLMo-7B-Instruct-hf"))
    compute = kc.Compute(home=folder / "home", environment={})
    options = kc.Options(providers=("local",))
    found = {c.what: c for c in checklist.validate(compute, config, options, reach=lambda: False)}
    assert found["hub"].state is found["token"].state is State.WARN
    compute = kc.Compute(home=folder / "home", environment={"HF_TOKEN": "hf_x"})
    found = {c.what: c for c in checklist.validate(compute, config, options, reach=lambda: True)}
    assert found["hub"].state is found["token"].state is State.OK
    assert "hf_x" not in repr(found)


def test_validate_launches_nothing_without_a_yes(cli: Cli) -> None:
    said = cli("validate", "training.yaml", "--on-gpu")
    assert said.code == 2
    assert "--yes" in said.err


def test_a_trial_is_ten_steps_with_a_checkpoint_and_its_own_folder() -> None:
    options = checklist.ten_steps(kc.Options(providers=("local",)), "/elsewhere")
    assert options.overrides["training.max_steps"] == 10
    assert options.overrides["checkpointing.save_steps"] == 5
    assert options.overrides["artifacts.output_dir"] == "/elsewhere"
    assert options.providers == ("local",)


# ---- doctor --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ("2.9.1", State.FAIL),
        ("1.13.0", State.FAIL),
        ("2.10.0", State.OK),
        ("2.13.0+cpu", State.OK),
        ("3.0", State.OK),
        ("", State.WARN),
    ],
)
def test_versions_below_the_security_floor_fail(found: str, state: State) -> None:
    check = below_floor("torch", FLOORS["torch"], found)
    assert check.state is state
    assert check.state is State.OK or "pip install" in check.mend


def test_doctor_is_content_with_a_fresh_machine_and_makes_nothing(cli: Cli, folder: Path) -> None:
    said = cli("doctor", "--json")
    assert said.code == 0, said.out
    assert {"Python", "torch", "ledger", "home", "disk", "orphans"} <= points(said).keys()
    assert not (folder / "home").exists()


class Fleet:
    """A driver that has one machine of whatever name."""

    features = frozenset({Feature.UNATTENDED})
    names: tuple[str, ...] = ()

    def __init__(self, context: object) -> None:
        """Needs nothing."""

    def fleet(self) -> list[Sighting]:
        return [Sighting(name, Phase.RUNNING, name) for name in self.names]


def patient(
    folder: Path, environment: dict[str, str], now: float = 2e9, **broken: str
) -> dict[str, Any]:
    info = ProviderInfo(
        "moon", "Moon", f"{__name__}:Fleet", environment=("MOON_KEY",), console_url="https://moon"
    )
    compute = kc.Compute(
        home=folder / "home",
        environment=environment,
        clock=Clock(now=lambda: now),
        catalogue=Catalogue({"moon": info}, broken),
    )
    return {check.what: check for check in diagnose(compute)}


def ledger(folder: Path) -> kc.Compute:
    compute = kc.Compute(home=folder / "home", environment={"KWANZAA_OWNER": "me"})
    assert compute.owner == "me"
    assert compute.runs() == []
    return compute


def test_doctor_finds_machines_without_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    monkeypatch.setattr(Fleet, "names", ("kwz-me-lost-1", "kwz-you-other-1", "somebody's"))
    ledger(folder)
    check = patient(folder, {"MOON_KEY": "s3cret-value"})["orphans on moon"]
    assert (check.state, check.exit_code) == (State.FAIL, 6)
    assert check.found.startswith("kwz-me-lost-1 belong")
    monkeypatch.setattr(Fleet, "names", ("kwz-you-other-1",))
    assert patient(folder, {"MOON_KEY": "k"})["orphans on moon"].state is State.OK


def test_doctor_takes_no_machine_that_is_only_just_launched_for_one_without_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger(folder)

    def fleet(_driver: Fleet) -> list[Sighting]:
        # A watcher writes its intent down, then launches, while the provider is being asked.
        attempt = sample_attempt(run_id="r1", name="kwz-me-r1-1")
        with closing(Ledger(folder / "home" / "ledger.sqlite", Clock())) as watchers:
            watchers.import_runs([(sample_run(id="r1"), [attempt])])
        return [Sighting("m1", Phase.RUNNING, "kwz-me-r1-1")]

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    monkeypatch.setattr(Fleet, "fleet", fleet)
    assert patient(folder, {"MOON_KEY": "k"})["orphans on moon"].state is State.OK


def _this_module() -> Any:
    import types

    module = types.ModuleType(__name__)
    module.Fleet = Fleet  # type: ignore[attr-defined]
    return module


def test_doctor_never_shows_a_credential(folder: Path) -> None:
    found = patient(folder, {"MOON_KEY": "s3cret-value"})
    assert found["credentials of moon"].state is State.OK
    assert "s3cret-value" not in repr(found)
    assert patient(folder, {})["credentials of moon"].mend == "export MOON_KEY=..."


def test_doctor_explains_the_one_click_that_a_bucket_needs(folder: Path) -> None:
    token = {"MOON_KEY": "k", "HF_TOKEN": "hf_thisisnotoken"}
    assert not [what for what in patient(folder, {"MOON_KEY": "k"}) if "hf:" in what]
    check = patient(folder, token)["hf:// stores"]
    assert check.state is State.WARN
    assert "Generate S3 credentials" in check.mend
    chosen = patient(folder, {**token, "KWANZAA_STORE": "hf://buckets/me/runs"})
    assert (chosen["store hf://buckets/me/runs"].state, check.exit_code) == (State.FAIL, 0)
    assert chosen["store hf://buckets/me/runs"].exit_code == 3
    git = patient(folder, {**token, "KWANZAA_STORE": "hf://datasets/me/runs"})
    assert "KWANZAA_STORE_TOKEN" in git["store hf://datasets/me/runs"].mend
    keys = {"HF_S3_ACCESS_KEY_ID": "HFAKx", "HF_S3_SECRET_ACCESS_KEY": "s3cret-value"}
    found = patient(folder, {**token, **keys})
    assert found["hf:// stores"].state is State.OK
    assert "s3cret-value" not in repr(found)


def test_doctor_names_a_broken_package(folder: Path) -> None:
    check = patient(folder, {}, sunbase="ImportError: no sun")["driver package"]
    assert check.state is State.FAIL
    assert "no sun" in check.found


def test_doctor_finds_a_damaged_ledger(folder: Path) -> None:
    ledger(folder).ledger.close()
    path = folder / "home" / "ledger.sqlite"
    assert patient(folder, {})["ledger"].state is State.OK
    path.write_bytes(b"no database" * 999)
    for leftover in folder.glob("home/ledger.sqlite-*"):
        leftover.unlink()
    check = patient(folder, {})["ledger"]
    assert check.state is State.FAIL
    assert "consoles" in check.mend


def test_doctor_finds_a_clock_that_is_behind(folder: Path) -> None:
    ledger(folder).ledger.close()
    with sqlite3.connect(folder / "home" / "ledger.sqlite") as database:
        database.execute("INSERT INTO events VALUES (1, 'r', 1900000000.0, 'k', 'm', '{}')")
    database.close()
    assert patient(folder, {}, now=1.9e9)["clock"].state is State.OK
    assert patient(folder, {}, now=1.8e9)["clock"].state is State.FAIL


def test_doctor_says_that_a_home_is_a_file(folder: Path) -> None:
    (folder / "home").write_text("")
    check = patient(folder, {})["home"]
    assert (check.state, check.exit_code) == (State.FAIL, 2)
    assert "KWANZAA_HOME" in check.mend
