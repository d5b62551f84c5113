"""Several adapters at once over one base: each learns what it learns in a run of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store.folder import RunFolder
from kwanzaa_compute.store.objects import open_store
from kwanzaa_trainer.attempt import run_attempt
from kwanzaa_trainer.members import EXIT_APART
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop

CLOSE = 1e-5
"""Sums over more rows at once come out differently in their last bits."""
ALL = {
    "checkpointing": {"save_steps": 2, "verify_base_weights_unchanged": True},
    "data": {"packing": True},
}
"""Longer and shorter, with other ranks, rates, seeds, targets, rows a step; one stops early."""
KINDS: dict[str, dict[str, Any]] = {
    "long": {"training": {"max_steps": 6}, "adapter": {"lora": {"dropout": 0.1}}},
    "short": {
        "run": {"seed": 3},
        "training": {"max_steps": 3, "learning_rate": 5e-3, "gradient_accumulation_steps": 3},
        "adapter": {"lora": {"r": 8, "alpha": 8, "dropout": 0.0}},
    },
    "early": {
        "training": {
            "max_steps": 8,
            "learning_rate": 1e-7,
            "early_stopping": {"enabled": True, "patience": 1, "threshold": 1.0},
        },
        "adapter": {"lora": {"target_modules": ["q_proj", "down_proj"]}},
        "evaluation": {"steps": 2},
    },
}


@pytest.fixture(autouse=True)
def _silent(monkeypatch: Any) -> None:
    """What the adapter says in the end is not asked here, and takes longer than all the rest."""
    monkeypatch.setattr("kwanzaa_trainer.train.greedy_answer", lambda *_, **__: "")


def kind(name: str) -> dict[str, Any]:
    """What is changed of the tiny config for a run of that kind, on the fast path."""
    training = {"fast_path": "always", **KINDS[name]["training"]}
    return {**ALL, **KINDS[name], "training": training}


def abreast(runs: list[Any], work: Path, *, attempt: int = 1, stop: Stop | None = None) -> int:
    from kwanzaa_trainer.abreast import train_abreast

    settings = Settings(attempt=attempt, heartbeat_s=0.0, threads=1, work=work)
    return train_abreast([run.store for run in runs], settings, Clock(), stop or Stop())


@pytest.fixture(scope="module")
def alone(make_run: Callable[..., Any]) -> dict[str, Any]:
    """A run of each kind that has been trained by itself. Read them, change nothing in them."""
    runs = {name: make_run(**kind(name)) for name in KINDS}
    for run in runs.values():
        assert run.train() == 0, run.complaints()
    return runs


@pytest.fixture
def fresh(make_run: Callable[..., Any]) -> dict[str, Any]:
    """The same runs, not begun."""
    return {name: make_run(**kind(name)) for name in KINDS}


def assert_alike(torch: Any, runs: dict[str, Any], alone: dict[str, Any]) -> None:
    from safetensors.torch import load

    for name, run in runs.items():
        own = alone[name]
        assert run.done().step == own.done().step
        losses, expected = run.losses(), own.losses()
        assert losses.keys() == expected.keys()
        for key, told in losses.items():
            wanted = float.fromhex(expected[key])
            assert float.fromhex(told) == pytest.approx(wanted, rel=CLOSE), (name, key)
        found, there = load(run.adapter()), load(own.adapter())
        assert found.keys() == there.keys()
        for key, tensor in there.items():
            torch.testing.assert_close(found[key], tensor, rtol=CLOSE, atol=CLOSE * 1e-2)


def test_each_learns_what_it_learns_alone_and_leaves_when_it_is_done(
    torch: Any, fresh: dict[str, Any], alone: dict[str, Any], tmp_path: Path
) -> None:
    assert abreast(list(fresh.values()), tmp_path) == 0
    assert_alike(torch, fresh, alone)
    assert [alone[name].done().step for name in KINDS] == [6, 3, 4]
    for name, run in fresh.items():
        assert run.done().summary["base_sha256"] == alone[name].done().summary["base_sha256"]
        assert run.done().files.keys() == alone[name].done().files.keys()


def test_a_shortage_a_stop_and_a_kill_change_nothing_of_what_each_learns(
    torch: Any, fresh: dict[str, Any], alone: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    from kwanzaa_trainer.abreast import Convoy
    from kwanzaa_trainer.fast.path import FastPath

    learn_each, learn, stop = FastPath.learn_each, Convoy._learn, Stop()
    at_once: list[int] = []

    def short_once(path: Any, pieces: Any) -> Any:
        at_once.append(len(pieces))
        if len(at_once) == 4:
            learn_each(path, pieces)
            raise torch.OutOfMemoryError
        if len(at_once) == 8:
            stop.ask("test")
        return learn_each(path, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(FastPath, "learn_each", short_once)
        assert abreast(list(fresh.values()), tmp_path / "1", stop=stop) == 75
    assert at_once[:8] == [3, 3, 3, 3, 1, 1, 1, 1]
    assert all(run.checkpoints() for run in fresh.values())
    assert all(run.folder.done() is None for run in fresh.values())
    rounds: list[int] = []

    def killed(convoy: Any, asked: Any) -> Any:
        rounds.append(len(asked))
        if len(rounds) == 4:
            raise KeyboardInterrupt  # nobody gets to save anything any more
        return learn(convoy, asked)

    with monkeypatch.context() as patch:
        patch.setattr(Convoy, "_learn", killed)
        with pytest.raises(KeyboardInterrupt):
            abreast(list(fresh.values()), tmp_path / "2", attempt=2)
    assert any(run.folder.done() is None for run in fresh.values())
    assert abreast(list(fresh.values()), tmp_path / "3", attempt=3) == 0
    assert_alike(torch, fresh, alone)


def test_a_run_of_two_adapters_trains_them_in_one_process(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    runs = {
        name: make_run(
            run={"seed": seed},
            training={"max_steps": 2, "fast_path": "always"},
            evaluation={"strategy": "no"},
        )
        for name, seed in (("one", 1), ("other", 2))
    }
    folder = RunFolder(open_store(f"file://{tmp_path}/run"))
    folder.put_member_names(list(runs))
    for name, run in runs.items():
        target = tmp_path / "run/members" / name
        target.parent.mkdir(exist_ok=True)
        run.root.rename(target)
    settings = Settings(heartbeat_s=0.0, work=tmp_path / "work")
    assert run_attempt(folder.store, settings, Clock(), Stop()) == 0
    done = folder.done()
    assert done is not None
    assert (done.step, list(done.summary["members"])) == (4, ["one", "other"])
    log = (tmp_path / "run/members/one/attempts/1/log.jsonl").read_text()
    assert "2 of 2 adapters at once" in log


def test_one_that_fails_leaves_the_others_alone(
    torch: Any, make_run: Callable[..., Any], alone: dict[str, Any], tmp_path: Path
) -> None:
    broken = make_run(train=b"no JSON\n", **kind("long"))
    short = make_run(**kind("short"))
    assert abreast([broken, short], tmp_path) == 1
    assert "train.jsonl" in broken.complaints()
    assert_alike(torch, {"short": short}, alone)


def test_without_a_fast_path_each_is_left_to_be_trained_by_itself(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    runs = [make_run(training={"max_steps": 2}) for _ in range(2)]
    assert abreast(runs, tmp_path) == EXIT_APART
    for run in runs:
        assert "fast path only, and there is no GPU" in run.events("apart")[0]["message"]
        assert run.folder.failure(1) is None
        assert run.folder.done() is None
