"""`sweep`: what is said before several adapters are trained, and what is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.store import Done

Cli = Callable[..., Any]


@pytest.fixture
def bases(config: Path) -> tuple[Path, Path]:
    """Two base models that are good enough to plan with."""
    base = config.parent / "base"
    other = config.parent / "other"
    other.mkdir()
    (other / "config.json").write_bytes((base / "config.json").read_bytes())
    return base, other


@pytest.fixture
def paid(config: Path, moonbase: str) -> Path:
    """The same config, to be trained on the moonbase only, which is sold out."""
    config.write_text(f"{config.read_text()}compute:\n  provider: {moonbase}\n")
    return config


def words(config: Path, bases: tuple[Path, ...], *more: str) -> list[object]:
    named = [word for base in bases for word in ("--base-model", base)]
    return ["sweep", config, *named, *more]


def test_one_base_model_is_no_sweep(cli: Cli, config: Path, bases: tuple[Path, Path]) -> None:
    for some in ((), bases[:1], bases[:1] * 2):
        result = cli(*words(config, some, "--provider", "local"))
        assert result.code == kc.UsageError.exit_code
        assert "two base models or more" in result.err


def test_several_configs_make_a_sweep(cli: Cli, paid: Path) -> None:
    other = paid.with_name("other.yaml")
    other.write_text(paid.read_text().replace("name: ", "name: other-"))
    unasked = cli("sweep", paid, other, "--max-usd", "5")
    assert "2 adapters in one run: " in unasked.err
    assert kc.Compute().runs() == []


def test_what_costs_money_needs_a_cap_and_a_yes(
    cli: Cli, paid: Path, bases: tuple[Path, Path]
) -> None:
    assert cli(*words(paid, bases, "--yes")).code == kc.BudgetError.exit_code
    unasked = cli(*words(paid, bases, "--max-usd", "5"))
    assert unasked.code == kc.UsageError.exit_code
    assert "add --yes" in unasked.err
    assert "2 adapters in one run: base, other" in unasked.err
    assert "expected  one run $" in unasked.err
    assert kc.Compute().runs() == []


def test_a_sweep_that_ends_without_a_machine_says_so_once(
    cli: Cli, paid: Path, bases: tuple[Path, Path]
) -> None:
    """The moonbase is sold out: one run is entered, with both members in its folder."""
    result = cli(*words(paid, bases, "--max-usd", "5", "--yes", "--json"))
    assert result.code == kc.NothingFitsError.exit_code
    start, *_, end = map(json.loads, result.out.splitlines())
    assert start["members"] == end["members"] == ["base", "other"]
    (run,) = kc.Compute().runs()
    assert run.state is RunState.NO_CAPACITY
    for member in run.members.values():
        assert member.store.exists("input/config.json")
        assert member.store.exists("input/train.jsonl")
        assert member.store.exists("input/base/config.json")


def test_what_is_finished_of_a_sweep_can_be_fetched(
    cli: Cli, config: Path, bases: tuple[Path, Path], home: Path, tmp_path: Path
) -> None:
    compute = kc.Compute()
    planned = compute.plan_sweep(config, list(map(str, bases)), kc.Options(providers=("local",)))
    run = compute.prepare(planned.runs[0])
    assert cli("download", run.id, tmp_path / "out").code == 1
    store = run.members["other"].store
    store.put("adapter/w", b"weights")
    run.members["other"].put_done(Done(1, 8, {"w": _sha256(b"others")}, {}))
    damaged = cli("download", run.id, tmp_path / "out")
    assert damaged.code == kc.StoreError.exit_code
    store.delete("done.json")
    run.members["other"].put_done(Done(1, 8, {"w": _sha256(b"weights")}, {}))
    fetched = cli("download", run.id, tmp_path / "out", "--json").json
    assert fetched["files"] == ["other/w"]
    assert fetched["missing"] == ["base"]
    assert (tmp_path / "out" / "other" / "w").read_bytes() == b"weights"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
