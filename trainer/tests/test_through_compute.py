"""Whole runs as users have them: damaged between two attempts, and the trial of `validate`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import kwanzaa_compute as kc
from kwanzaa_compute.compute.checks import State, trial
from kwanzaa_compute.store.folder import CONFIG, EVAL_DATA, TRAIN_DATA

pytestmark = pytest.mark.soak  # 70 s of whole runs: more than every test run can spare
Launch = Callable[[], kc.Run]


@pytest.fixture
def config(make_run: Any, base: Path, tmp_path: Path) -> Path:
    """The default tiny run as a training.yaml with its files."""
    laid_out = make_run()
    whole = yaml.safe_load(laid_out.store.get(CONFIG))
    files = {TRAIN_DATA: "train.jsonl", EVAL_DATA: "eval.jsonl"}
    for name, local in files.items():
        (tmp_path / local).write_bytes(laid_out.store.get(name))
    wanted = ("run", "model", "adapter", "data", "training", "evaluation", "checkpointing")
    kept = {section: whole[section] for section in wanted}
    kept["model"] = {"base_model_id": str(base)}
    kept["artifacts"] = {"output_dir": str(tmp_path / "adapter")}
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(kept))
    return path


@pytest.fixture
def compute(tmp_path: Path) -> kc.Compute:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KWANZAA_HEARTBEAT_S": "0.1"}
    return kc.Compute(home=tmp_path / "home", environment=environment)


LOCAL = kc.Options(providers=("local",))


@pytest.fixture
def launch(config: Path, compute: kc.Compute) -> Launch:
    """`launch()` starts the run on this machine."""
    return lambda: compute.train(config, LOCAL)


def stopped_at(run: kc.Run, step: int) -> list[str]:
    """Stops the run past a step; returns the folders of its checkpoints, the newest first."""

    def stop(seen: kc.Step) -> None:
        if seen.heartbeat and seen.heartbeat.step >= step:
            run.stop()

    assert run.wait(stop, poll_s=0.02).state is kc.RunState.STOPPED
    names = {item.path.split("/")[1] for item in run.folder.store.list("checkpoints")}
    return sorted(names, key=lambda name: -int(name.split("-")[1]))


def cut(run: kc.Run, checkpoint: str) -> None:
    path = f"checkpoints/{checkpoint}/state.safetensors"
    run.folder.store.put(path, run.folder.store.get(path)[:-9])


def test_a_run_goes_on_from_the_checkpoint_before_and_ends_bit_identical(
    launch: Launch, reference: Any
) -> None:
    run = launch()
    newest, before = stopped_at(run, 9)[:2]
    cut(run, newest)
    again = run._compute.resume(run.id)
    assert again.wait(poll_s=0.05).state is kc.RunState.DONE
    log = run.folder.store.get("attempts/2/log.jsonl").decode()
    assert f"checkpoint {newest} is damaged and skipped" in log
    assert f"resumed from {before}" in log
    assert (again.download() / "adapter_model.safetensors").read_bytes() == reference.adapter()


def test_a_run_with_damaged_checkpoints_only_fails_once_and_says_so(launch: Launch) -> None:
    run = launch()
    for name in stopped_at(run, 5):
        cut(run, name)
    receipt = run._compute.resume(run.id).wait(poll_s=0.05)
    assert receipt.state is kc.RunState.FAILED
    assert receipt.state.exit_code == 1
    assert "verifies" in receipt.reason
    assert len(run.attempts) == 2, "a failure that lasts is not tried again"


def test_a_trial_is_ten_real_steps(config: Path, compute: kc.Compute, tmp_path: Path) -> None:
    found = {check.what: check for check in trial(compute, config, LOCAL, lambda _text: None)}
    assert {check.state for check in found.values()} == {State.OK}, found
    assert found["test run"].found.startswith("10 steps for $0")
    assert "ckpt-5-1" in found["checkpoints"].found
    assert found["base unchanged"].found.startswith("sha256 ")
    assert not (tmp_path / "adapter").exists(), "the trial's adapter is thrown away"


def test_a_trial_that_fails_says_so(config: Path, compute: kc.Compute) -> None:
    base = Path(yaml.safe_load(config.read_text())["model"]["base_model_id"])
    broken = config.parent / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((base / "config.json").read_bytes())
    overrides = {"model.base_model_id": str(broken)}
    options = kc.Options(providers=("local",), overrides=overrides)
    (check,) = trial(compute, config, options, lambda _text: None)
    assert (check.what, check.state, check.exit_code) == ("test run", State.FAIL, 1)
    assert "kwanzaa logs" in check.mend
