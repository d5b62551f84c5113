"""Two processes that share a run's steps learn what one learns alone, and one goes on for two."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import RunError, UsageError
from kwanzaa_compute.store.objects import relative_paths
from kwanzaa_trainer.launching import EXIT_STOPPED, Line, line_up, require_one_machine, see_one_gpu
from kwanzaa_trainer.model import Base, attach_adapter, load_base
from kwanzaa_trainer.precision import Device, Precision
from kwanzaa_trainer.shards import quantise, shard_base
from kwanzaa_trainer.team import Team

pytestmark = pytest.mark.slow

LIMIT_S = 240
NEAR = 2e-6
"""Sums of float32 gradients come in another order: the last bits of a loss differ, no more."""

SHARED = {
    "adapter": {"lora": {"dropout": 0.0}},
    "training": {
        "max_steps": 8,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 3,
        "per_device_eval_batch_size": 4,
        "gradient_checkpointing": True,
    },
    "evaluation": {
        "steps": 4,
        "metrics": ["loss", "json_valid_rate"],
        "generation": {"max_new_tokens": 4, "max_samples": 1},
    },
    "checkpointing": {"save_steps": 2, "save_total_limit": 4},
}
"""A step of three rows, an evaluation of one batch: of each the first process has one more."""


def work_of(run: Any) -> Path:
    return Path(f"{run.root}-work")


def start_two(run: Any, attempt: int, *, by_hand: bool = False) -> "subprocess.Popen[bytes]":
    """One attempt in two processes over gloo: the trainer sees two cards, or torchrun is told."""
    environment = {
        **os.environ,
        "KWANZAA_ATTEMPT": str(attempt),
        "KWANZAA_HEARTBEAT_S": "0",
        "KWANZAA_THREADS": "1",
        "KWANZAA_WORK": str(work_of(run)),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "" if by_hand else "0,1",
    }
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *(torchrun if by_hand else ()), "-m", "kwanzaa_trainer"]
    return subprocess.Popen([*command, "run", run.url], env=environment, stderr=subprocess.PIPE)


def train_in_two(run: Any, attempt: int = 1, *, by_hand: bool = False) -> None:
    with start_two(run, attempt, by_hand=by_hand) as process:
        try:
            _, said = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, said.decode()[-3000:]


def processes_of(launcher: "subprocess.Popen[bytes]") -> list[int]:
    """Those that learn, by rank: the launcher starts them in that order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    kinds = {int(n): Path(f"/proc/{n}/cmdline").read_bytes() for n in children}
    return sorted(number for number, words in kinds.items() if b"spawn_main" in words)


def config_of_base() -> TrainingConfig:
    return TrainingConfig.model_validate(
        {"model": {"base_model_id": "example/base"}, "data": {"train_file": "train.jsonl"}}
    )


def values(run: Any) -> dict[tuple[int, str], float]:
    return {key: float.fromhex(loss) for key, loss in run.losses().items()}


@pytest.fixture(scope="module")
def alone(make_run: Any) -> Any:
    run = make_run(**SHARED)
    assert run.train() == 0, run.complaints()
    return run


@pytest.fixture(scope="module")
def in_two(make_run: Any) -> Any:
    run = make_run(**SHARED)
    train_in_two(run)
    return run


@pytest.fixture(scope="module")
def in_pieces(make_run: Any) -> Any:
    """Two processes with half of every block's 4-bit weights each."""
    run = make_run(**SHARED | {"training": SHARED["training"] | {"shard_base": "always"}})
    train_in_two(run, by_hand=True)
    return run


def test_a_base_in_two_pieces_learns_what_a_whole_one_learns(alone: Any, in_pieces: Any) -> None:
    (told,) = in_pieces.events("memory")
    assert told["pieces"] == 2
    assert "shard_base" in told["message"]
    assert values(in_pieces) == pytest.approx(values(alone), rel=NEAR)
    ours, theirs = in_pieces.done().summary, alone.done().summary
    for same in ("tokens", "base_sha256", "sample"):
        assert ours[same] == theirs[same], same
    assert ours["quality"]["counts"] == theirs["quality"]["counts"]


@pytest.fixture
def one_process(torch: Any) -> Any:
    """A group of this process alone: FSDP goes through every motion all the same."""
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("rewrites", [False, True])
def test_a_gather_that_rewrites_what_is_no_number_is_found_before_anything_is_learnt(
    base: Path, torch: Any, one_process: None, monkeypatch: pytest.MonkeyPatch, rewrites: bool
) -> None:
    from torch.distributed.fsdp import FSDPModule

    config, cpu = config_of_base(), Device("CPU")
    model = load_base(config, Base(str(base)), Precision("fp32", ""), cpu, in_pieces=True)
    adapted = attach_adapter(model, config)
    gather = FSDPModule.unshard

    def as_a_gpu_would_in_bf16(block: Any) -> None:
        gather(block)
        for weight in (p.data for p in block.parameters() if not p.requires_grad):
            weight.copy_(torch.where(weight.isnan(), torch.nan, weight))

    if rewrites:
        monkeypatch.setattr(FSDPModule, "unshard", as_a_gpu_would_in_bf16)
        with pytest.raises(RunError, match=r"torch 2.* bytes of a block differ"):
            shard_base(adapted, cpu, 1)
    else:
        shard_base(adapted, cpu, 1)


def test_packed_weights_are_stored_as_what_a_copy_by_arithmetic_leaves_alone(torch: Any) -> None:
    """FSDP gathers on a GPU by such a copy; as bf16, two bytes of 0xff would be no number."""
    from torch import nn

    block = nn.Sequential(nn.Linear(64, 64, bias=False))
    block[0].weight.data.fill_(1.0)
    model = nn.ModuleList([block])
    model._no_split_modules = ["Sequential"]
    quantise(model, config_of_base(), Precision("fp32", ""), Device("CPU"))
    packed = block[0].weight.data
    assert set(packed.view(torch.uint8).flatten().tolist()) == {0xFF}
    computed = torch.float32 if packed.is_floating_point() else torch.int64
    assert torch.equal(
        packed.to(computed).to(packed.dtype).view(torch.uint8), packed.view(torch.uint8)
    )


def test_two_processes_learn_what_one_learns_with_twice_the_accumulation(
    alone: Any, in_two: Any
) -> None:
    assert values(in_two).keys() == values(alone).keys()
    assert values(in_two) == pytest.approx(values(alone), rel=NEAR)
    ours, theirs = in_two.done().summary, alone.done().summary
    assert ours["tokens"] == theirs["tokens"]
    assert ours["eval_loss_best"] == pytest.approx(theirs["eval_loss_best"], rel=NEAR)
    assert ours["base_sha256"] == theirs["base_sha256"]


def test_only_the_leading_process_writes_checkpoints_log_and_result(in_two: Any) -> None:
    stored = [event["name"] for event in in_two.events("checkpoint")]
    assert stored == sorted(set(stored), key=stored.index)
    assert in_two.checkpoints()[0] == "ckpt-8-1"
    assert len(in_two.events("finished")) == 1
    assert len(in_two.events("precision")) == 1


def test_a_machine_downloads_the_base_once(in_two: Any) -> None:
    found = work_of(in_two).glob("process-*/base/model.safetensors")
    assert [path.parts[-3] for path in found] == ["process-0"]


def test_two_go_on_from_what_one_saved_and_one_after_a_death_among_the_two(
    alone: Any, tmp_path: Path
) -> None:
    run = alone.copy(tmp_path / "copy")
    for gone in ("done.json", *(f"checkpoints/ckpt-{n}-1/manifest.json" for n in (4, 6, 8))):
        (run.root / gone).unlink()
    until = time.monotonic() + LIMIT_S
    with start_two(run, 2) as process:
        try:
            while not (run.root / "checkpoints/ckpt-4-2/manifest.json").exists():
                assert process.poll() is None, process.communicate()[1].decode()[-3000:]
                assert time.monotonic() < until
                time.sleep(0.01)
            os.kill(processes_of(process)[1], signal.SIGKILL)
            _, said = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 1, said.decode()[-3000:]
    (resumed,) = run.events("resumed", attempt=2)
    assert resumed["step"] == 2
    failure = run.folder.failure(2)
    assert failure is not None
    assert failure.retryable
    assert run.train(attempt=3) == 0, run.complaints()
    (resumed,) = run.events("resumed", attempt=3)
    assert resumed["step"] >= 4
    assert values(run) == pytest.approx(values(alone), rel=NEAR)


def test_two_that_are_told_to_stop_save_and_say_so(alone: Any, tmp_path: Path) -> None:
    """The signal is the launcher's, and both answer it in their own time."""
    run = alone.copy(tmp_path / "copy")
    for gone in ("done.json", *(f"checkpoints/ckpt-{n}-1/manifest.json" for n in (4, 6, 8))):
        (run.root / gone).unlink()
    until = time.monotonic() + LIMIT_S
    with start_two(run, 2) as process:
        try:
            while not (run.root / "checkpoints/ckpt-4-2/manifest.json").exists():
                assert process.poll() is None, process.communicate()[1].decode()[-3000:]
                assert time.monotonic() < until
                time.sleep(0.01)
            process.terminate()
            _, said = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == EXIT_STOPPED, said.decode()[-3000:]
    failure = run.folder.failure(2)
    assert failure is not None
    assert failure.stopped


@pytest.mark.parametrize("how", ["in_two", "in_pieces"])
def test_what_two_processes_saved_one_goes_on_from(
    alone: Any, how: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(how).copy(tmp_path / "copy")
    for gone in ("done.json", "checkpoints/ckpt-8-1/manifest.json"):
        (run.root / gone).unlink()
    for path, _ in list(relative_paths(run.root / "adapter")):
        path.unlink()
    assert run.train(attempt=2) == 0, run.complaints()
    (resumed,) = run.events("resumed", attempt=2)
    assert resumed["step"] == 6
    assert values(run) == pytest.approx(values(alone), rel=NEAR)
    rows = run.store.get("attempts/2/metrics.jsonl").splitlines()
    assert {json.loads(row)["step"] for row in rows if json.loads(row)["kind"] == "train"} == {7, 8}


def test_a_team_of_one_returns_what_it_is_given() -> None:
    team = Team()
    assert team.leads
    assert team.share([1, 2, 3]) == [1, 2, 3]
    assert team.agreed("x") == "x"
    assert team.sums(0.1, 2) == [0.1, 2]


def test_every_row_of_a_step_is_learnt_by_exactly_one_process() -> None:
    rows = list(range(7))
    shares = [Team(rank, 3).share(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows


def test_a_process_is_started_for_every_gpu_that_may_be_used() -> None:
    assert line_up({"CUDA_VISIBLE_DEVICES": "0,3,5"}) == Line(3)
    assert line_up({"CUDA_VISIBLE_DEVICES": "2"}).is_alone
    assert line_up({"CUDA_VISIBLE_DEVICES": "0,1", "WORLD_SIZE": "2"}).is_alone


def test_several_machines_meet_at_the_first() -> None:
    told = {"CUDA_VISIBLE_DEVICES": "0", "KWANZAA_MACHINES": "algo-1,algo-2"}
    lines = [line_up({**told, "KWANZAA_MACHINE": name}) for name in ("algo-1", "algo-2")]
    assert lines == [
        Line(1, 2, "algo-1:29400", is_first, name)
        for name, is_first in (("algo-1", True), ("algo-2", False))
    ]
    own_port = told | {"KWANZAA_MACHINE": "algo-1", "KWANZAA_MEETING_PORT": "2345"}
    assert line_up(own_port).meets_at == "algo-1:2345"
    with pytest.raises(UsageError, match="KWANZAA_MACHINE"):
        line_up({**told, "KWANZAA_MACHINE": "algo-3"})
    for bad in ("0", "port", "65536", "-1"):
        with pytest.raises(UsageError, match="KWANZAA_MEETING_PORT"):
            line_up(own_port | {"KWANZAA_MEETING_PORT": bad})


def test_one_process_on_each_machine_looks_it_over() -> None:
    told = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    teams = [Team.from_environment(told | {"RANK": str(rank)}) for rank in range(4)]
    assert [team.is_first_here for team in teams] == [True, False, True, False]


def test_several_adapters_are_refused_on_several_machines() -> None:
    """Each machine would train them all over again."""
    require_one_machine({"KWANZAA_MACHINES": "algo-1"})
    with pytest.raises(UsageError, match="one machine"):
        require_one_machine({"KWANZAA_MACHINES": "algo-1,algo-2"})


def test_each_process_sees_its_own_gpu_alone() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "4,7", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    see_one_gpu(environ)
    assert (environ["CUDA_VISIBLE_DEVICES"], environ["LOCAL_RANK"]) == ("7", "0")


@pytest.mark.parametrize(
    "environ",
    [{"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}, {"LOCAL_WORLD_SIZE": "0"}],
)
def test_a_team_that_makes_no_sense_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="torchrun"):
        Team.from_environment(environ)
