"""`resume --from`: the user chooses the checkpoint, and whatever machine comes next obeys."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.store.checkpoints import list_checkpoints
from kwanzaa_compute.testing import FakeCloud
from kwanzaa_compute.testing.plugin import compute_over

QUICKSTART = Path(__file__).parents[2] / "examples/quickstart/training.yaml"
OPTIONS = kc.Options(
    max_usd=Decimal(5), overrides={"model.base_model_id": "allenai/OLMo-7B-Instruct-hf"}
)


@pytest.fixture
def cloud() -> FakeCloud:
    """A machine is taken back in the middle of the second attempt."""
    return FakeCloud(preempt_at=(800,))


@pytest.fixture
def compute(cloud: FakeCloud, tmp_path: Path) -> Iterator[kc.Compute]:
    with compute_over(cloud, tmp_path) as compute:
        yield compute


@pytest.fixture
def stopped(compute: kc.Compute) -> kc.Run:
    """A run that was stopped after several checkpoints."""
    run = compute.train(QUICKSTART, OPTIONS)

    def stop(step: kc.Step) -> None:
        if step.heartbeat and step.heartbeat.step >= 60:
            run.stop()

    assert run.wait(stop, poll_s=10).state is kc.RunState.STOPPED
    assert len(steps(run)) >= 3
    return run


def steps(run: kc.Run) -> list[int]:
    """Steps of the first attempt's checkpoints, the newest first."""
    return [name.step for name in list_checkpoints(run.folder.store) if name.attempt == 1]


def began_at(cloud: FakeCloud) -> list[int]:
    """At which step each machine's trainer began, in order."""
    return [trainer.began[1] for trainer in cloud.trainers.values() if trainer.began]


def test_it_goes_on_from_there_and_never_back_to_it_while_there_is_newer(
    compute: kc.Compute, cloud: FakeCloud, stopped: kc.Run
) -> None:
    older = steps(stopped)[-1]
    run = compute.resume(stopped.id, checkpoint=f"checkpoint-{older}")
    assert run.wait(poll_s=10).state is kc.RunState.DONE
    _, resumed, relaunched = began_at(cloud)
    assert resumed == older
    assert relaunched > older, "the preempted second attempt had got further"
    assert run.attempts[1].fault == "preempted"
    assert cloud.billing == []


def test_what_was_set_aside_can_be_taken_up_again(
    compute: kc.Compute, cloud: FakeCloud, stopped: kc.Run
) -> None:
    newest, *_, oldest = steps(stopped)
    compute.resume(stopped.id, checkpoint=str(oldest)).stop()
    assert compute.run(stopped.id).wait(poll_s=10).state is kc.RunState.STOPPED
    run = compute.resume(stopped.id, checkpoint=f"ckpt-{newest}-1")
    assert run.wait(poll_s=10).state is kc.RunState.DONE
    assert began_at(cloud)[1] == newest


@pytest.mark.parametrize("wanted", ["checkpoint-7", "ckpt-10-9", "newest", "../10", ""])
def test_an_unknown_one_is_refused_with_those_that_there_are(
    compute: kc.Compute, stopped: kc.Run, wanted: str
) -> None:
    with pytest.raises(kc.UsageError, match="has no checkpoint") as caught:
        compute.resume(stopped.id, checkpoint=wanted)
    assert f"ckpt-{steps(stopped)[0]}-1" in caught.value.mend
    assert stopped.state is kc.RunState.STOPPED
    assert stopped.folder.resume_point() is None


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_one_is_refused_before_a_machine_is_paid(
    compute: kc.Compute, stopped: kc.Run, file: str
) -> None:
    newest, second, *_ = steps(stopped)
    stopped.folder.store.put(f"checkpoints/ckpt-{newest}-1/{file}", b"torn")
    with pytest.raises(kc.UsageError, match=f"ckpt-{newest}-1 of run .* is damaged") as caught:
        compute.resume(stopped.id, checkpoint=str(newest))
    assert f"ckpt-{second}-1" in caught.value.mend
    assert stopped.state is kc.RunState.STOPPED
    assert len(stopped.attempts) == 1


def test_a_run_that_goes_on_is_left_alone(compute: kc.Compute, stopped: kc.Run) -> None:
    compute.resume(stopped.id)
    with pytest.raises(kc.UsageError, match="still goes on"):
        compute.resume(stopped.id, checkpoint=str(steps(stopped)[-1]))
    assert stopped.folder.resume_point() is None


def test_a_run_that_is_done_has_nothing_to_go_on_with(compute: kc.Compute) -> None:
    run = compute.train(QUICKSTART, OPTIONS)
    run.wait(poll_s=10)
    with pytest.raises(kc.UsageError, match="is done"):
        compute.resume(run.id, checkpoint="checkpoint-10")
