"""Raw machines, each over its provider's own wire: the commands, and a GPU that is not as sold."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.cli import main
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Compute, Options, Run, strays
from kwanzaa_compute.compute.machines import MachineWish
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.drivers.plugins import build_simulator, discover
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.runs.records import AttemptState, RunState
from kwanzaa_compute.testing.samples import sample_job

COMMANDS = ("ending", "cleaning", "machines")


@dataclass(frozen=True, slots=True)
class World:
    """A user with an account at one simulated provider."""

    provider: str
    cloud: Any
    open: Callable[[], Compute]
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str]:
        """A command line's exit code, and all that it said."""
        self.capsys.readouterr()
        code = main(list(words))
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def rent(self) -> Run:
        """A machine to look around on, as `provision` begins it, that can be logged in to."""
        compute = self.open()
        run = compute.provision(compute.choose_machine(MachineWish(1.0)))
        self.until(lambda: bool(run.launch().attempt and run.attempts[-1].machine_id))
        assert run.attempts[-1].state is AttemptState.LIVE
        self.until(lambda: run.ssh() is not None)
        return run

    def lost(self, owner: str) -> str:
        """The id of a machine that bears an owner's mark, and that no run knows of."""
        provider = self.open().provider(self.provider)
        job = sample_job(name=f"kwz-{owner}-lost-ab12cd-1", argv=("sleep", "600"))
        return provider.launch(job, provider.offers()[0])

    def until(self, holds: Callable[[], bool]) -> None:
        clock = Clock()
        last = clock.monotonic() + 60
        while not holds():
            assert clock.monotonic() < last
            clock.sleep(0.05)

    @property
    def billing(self) -> list[str]:
        """The machines that cost money now."""
        return [machine.id for machine in self.cloud.billing]


@pytest.fixture(params=["runpod", "lambda"])
def world(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[World]:
    found, name = discover(), request.param
    monkeypatch.setenv("KWANZAA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(strays, "PAUSE_S", 0.1)
    simulator: Any
    with build_simulator(found.find(name), tmp_path / "cloud") as simulator:
        info = replace(simulator.adapt(found.find(name)), settle_s=0.3)
        monkeypatch.setattr(simulator, "adapt", lambda _info: info)

        def open_compute(_store: str | None = None) -> Compute:
            home, owner = tmp_path / "home", {"KWANZAA_OWNER": "me"}
            return compute_over({name: simulator}, found, home, environment=owner)

        for command in COMMANDS:
            monkeypatch.setattr(f"kwanzaa_compute.cli.{command}.open_compute", open_compute)
        yield World(name, simulator.cloud, open_compute, capsys)


@pytest.mark.slow
def test_a_machine_is_rented_for_its_time_and_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute.runs.recovery.SHORTEST_USEFUL_HOURS", 0.0005)
    words = ("--provider", world.provider, "--simulate", "--max-hours", "0.0006", "--yes")
    code, said = world.run("provision", *words)
    assert code == 0, said
    assert "an hour, from its launch to its end" in said


@pytest.mark.slow
def test_a_machine_is_logged_in_to_and_terminated(world: World) -> None:
    run = world.rent()
    access, name = run.ssh(), run.attempts[-1].name
    code, said = world.run("ssh", run.id, "--json", "--", "nvidia-smi")
    told = json.loads(said)
    assert (code, told["host"], told["argv"][-1]) == (0, "127.0.0.1", "nvidia-smi")
    assert "StrictHostKeyChecking=yes" in told["argv"]
    (known,) = (run._compute.home / "ssh").iterdir()
    assert access is not None
    assert known.read_text() == f"{name} {access.host_key}\n"
    assert world.billing == [run.attempts[-1].machine_id]
    code, said = world.run("terminate", run.id)
    assert (code, world.billing) == (0, []), said
    assert f"{run.id}: stopped" in said
    assert run.state is RunState.STOPPED


@pytest.mark.slow
def test_a_machine_without_a_run_is_found_and_ended_and_nobody_elses_is(world: World) -> None:
    mine, theirs = world.lost("me"), world.lost("you")
    code, said = world.run("gc")
    assert code == 6
    assert f"machine {mine} (kwz-me-lost-ab12cd-1) on {world.provider} may be billing $" in said
    assert world.open().catalogue.find(world.provider).console_url in said
    assert "kwz-you" not in said
    code, said = world.run("gc", "--end", "--yes")
    assert code == 0, said
    assert f"{mine}: ended, and confirmed absent" in said
    assert world.billing == [theirs]
    assert "no machine of yours is without a run" in world.run("gc")[1]


@pytest.mark.slow
def test_a_run_without_a_machine_is_named_and_ends(world: World) -> None:
    """Somebody ended its machine at the console."""
    run = world.rent()
    world.cloud.terminate(run.attempts[-1].machine_id)
    world.until(lambda: not world.billing)
    code, said = world.run("gc")
    assert code == 0
    assert f"run {run.id}: its machine {run.attempts[-1].machine_id}" in said
    assert "is not to be seen" in said
    assert world.run("terminate", run.id)[0] == 0
    assert run.attempts[-1].state is AttemptState.CLOSED


@pytest.mark.slow
def test_all_that_is_mine_is_ended_even_what_no_ledger_knows(world: World) -> None:
    run, mine, theirs = world.rent(), world.lost("me"), world.lost("you")
    code, said = world.run("terminate", "--all")
    assert code == 0, said
    assert f"{mine}: ended, and confirmed absent" in said
    assert run.state is RunState.STOPPED
    assert world.billing == [theirs]


@pytest.mark.slow
def test_f19_a_machine_whose_gpu_is_not_the_one_sold_is_given_up_and_another_is_tried(
    world: World, tmp_path: Path
) -> None:
    """The trainer itself looks, before it does anything else."""
    world.cloud.gpu_of = lambda machine: find_gpu("T4")
    compute = world.open()
    options = Options(
        providers=(world.provider,), gpu=SOLD[world.provider], max_usd=Decimal(20), max_hours=1.0
    )
    run = compute.prepare(compute.plan(small_config(tmp_path), options))
    world.until(lambda: bool(run.launch()) and len(run.attempts) >= 2)
    first, second = run.attempts[:2]
    assert "T4" in first.reason
    assert first.machine_id not in world.billing
    assert (first.offer_id, first.region) != (second.offer_id, second.region)
    assert world.run("terminate", run.id)[0] == 0
    assert world.billing == []


SOLD = {"runpod": "A5000", "lambda": "A10"}


def small_config(folder: Path) -> Path:
    """A training.yaml that is good enough to be planned and sent up."""
    base = folder / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SHAPE))
    words = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "!"}]
    (folder / "train.jsonl").write_text(json.dumps({"messages": words}) + "\n")
    path = folder / "training.yaml"
    path.write_text(
        "run: {name: small}\nmodel: {base_model_id: ./base}\n"
        "data: {train_file: train.jsonl, max_seq_length: 64}\ntraining: {max_steps: 1}\n"
    )
    return path


SHAPE = {
    "model_type": "olmo",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 512,
}
