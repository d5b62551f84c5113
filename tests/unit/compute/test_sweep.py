"""All in one run or a run for each: the cheaper way, under one cap."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.compute.sweep import member_names
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing import FakeCloud
from kwanzaa_compute.testing.fakecloud import fake_offers
from kwanzaa_compute.testing.plugin import compute_over

SMALL, ALIKE, LARGE = "allenai/OLMo-1B-hf", "allenai/OLMo-2-0425-1B", "Qwen/Qwen2.5-32B"
CONFIG = """\
run: {name: kinds}
model: {base_model_id: allenai/OLMo-1B-hf}
data: {train_file: train.jsonl, format: prompt_completion_jsonl}
"""
BASES = ("1b-hf", "2-0425-1b")
FAKE = kc.Options(providers=("fake",))
Open = Callable[..., kc.Compute]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A training.yaml with half a million tokens."""
    sample = {"prompt": "Hi " * 500, "completion": "!" * 900}
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(sample)}\n" * 500)
    path = tmp_path / "training.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def compute_of(tmp_path: Path) -> Iterator[Open]:
    """`compute_of(offers)`: a `Compute` over a cloud that sells these."""
    with ExitStack() as stack:

        def make(*offers: Offer, **weather: Any) -> kc.Compute:
            cloud = FakeCloud(offers=offers or None, **weather)
            return stack.enter_context(compute_over(cloud, tmp_path / "home"))

        yield make


def machine(gpu: str, usd: str, **changes: Any) -> Offer:
    found = find_gpu(gpu)
    assert found is not None
    price = Decimal(usd)
    return replace(fake_offers()[0], id=f"{gpu}-{usd}", gpu=found, usd_per_hour=price, **changes)


def test_bases_alike_share_one_machine(config: Path, compute_of: Open) -> None:
    planned = compute_of().plan_sweep(config, [SMALL, ALIKE], FAKE)
    assert planned.is_together
    assert planned.names == ("olmo-1b-hf", "olmo-2-0425-1b")
    assert list(planned.runs[0].members) == list(planned.names)
    assert planned.together_usd is not None
    assert planned.apart_usd is not None
    assert planned.together_usd < planned.apart_usd


def test_a_small_base_is_not_carried_to_the_large_ones_dear_machine(
    config: Path, compute_of: Open
) -> None:
    compute = compute_of(machine("L4", "0.20"), machine("H200", "30.00"))
    planned = compute.plan_sweep(config, [SMALL, LARGE], FAKE)
    assert not planned.is_together
    assert [run.plan.candidates[0].offer.gpu.name for run in planned.runs] == ["L4", "H200"]
    assert [Path(run.loaded.config.output_dir).name for run in planned.runs] == list(planned.names)
    forced = compute.plan_sweep(config, [SMALL, LARGE], FAKE, always_together=True)
    assert forced.is_together
    assert forced.runs[0].plan.candidates[0].offer.gpu.name == "H200"
    assert forced.together_usd == planned.together_usd


def test_more_gpus_for_their_price_train_side_by_side(config: Path, compute_of: Open) -> None:
    four = machine("L4", "0.30", gpu_count=4)
    compute = compute_of(machine("L4", "0.20"), four)
    bases = [SMALL, ALIKE, "Qwen/Qwen2.5-1.5B", "meta-llama/Llama-3.2-1B"]
    assert compute.plan_sweep(config, bases, FAKE).runs[0].plan.candidates[0].offer == four
    assert compute.plan(config, FAKE).plan.candidates[0].offer != four


def test_where_not_all_fit_in_one_run_each_has_its_own(config: Path, compute_of: Open) -> None:
    compute = compute_of()
    one = compute.plan(config, replace(FAKE, gpu="L4")).plan.best
    assert one is not None
    limit = replace(FAKE, gpu="L4", max_hours=1.5 * one.hours.expected)
    planned = compute.plan_sweep(config, [SMALL, ALIKE, "Qwen/Qwen2.5-1.5B"], limit)
    assert planned.together_usd is None
    assert len(planned.runs) == 3


def test_runs_of_their_own_share_what_is_left_of_the_cap(config: Path, compute_of: Open) -> None:
    compute = compute_of(machine("L4", "0.20"), machine("H200", "30.00"))
    options = replace(FAKE, max_usd=Decimal(100))
    planned = compute.plan_sweep(config, [SMALL, LARGE], options)
    costs = planned.expected_usd
    first = planned.next_run(0, Decimal(0)).max_usd
    assert first == 100 * costs[0] / sum(costs)
    assert planned.next_run(1, Decimal("0.25")).max_usd == Decimal("99.75")
    assert planned.next_run(1, Decimal(101)).max_usd == 0
    tight = replace(FAKE, max_usd=sum(costs) - Decimal("0.01"))
    dear = compute.plan_sweep(config, [SMALL, LARGE], tight)
    assert dear.is_together, "what costs more than the cap is no choice"
    assert not dear.runs[0].plan.candidates


def test_several_configs_are_swept_as_several_bases_are(config: Path, compute_of: Open) -> None:
    other = config.with_name("other.yaml")
    other.write_text(CONFIG.replace("name: kinds", "name: other"))
    compute = compute_of()
    planned = compute.plan_sweep([config, other], options=FAKE)
    assert planned.names == ("kinds", "other")
    swept = compute.plan_sweep([config, other], [SMALL, ALIKE], FAKE, always_together=True)
    assert swept.names == tuple(f"{n}-olmo-{b}" for n in ("kinds", "other") for b in BASES)
    bases = [work.loaded.config.model.base_model_id for work in swept.runs[0].members.values()]
    assert bases == [SMALL, ALIKE] * 2
    with pytest.raises(kc.UsageError, match="each once"):
        compute.plan_sweep([config, config], options=FAKE)


def test_adapters_that_share_out_rows_are_priced_with_their_own_alone(
    config: Path, compute_of: Open
) -> None:
    other = config.with_name("other.yaml")
    other.write_text(CONFIG.replace("name: kinds", "name: other"))
    compute, found = compute_of(machine("A100-40GB", "3.00")), []
    for wish in ("auto", 1, 2):
        wishes = replace(FAKE, overrides={"training.adapters_at_once": wish})
        base = ["allenai/OLMo-7B-hf"]
        sweep = compute.plan_sweep([config, other], base, wishes, always_together=True)
        found.append(sweep.together_usd)
    kept, alone, shared = found
    assert kept == alone
    assert shared > kept, "fewer rows at a time are slower, as far as the plan knows"


@pytest.mark.parametrize("bases", [[], [SMALL], [SMALL, SMALL]])
def test_a_sweep_takes_two_base_models_at_least(
    config: Path, compute_of: Open, bases: list[str]
) -> None:
    with pytest.raises(kc.UsageError, match="two base models"):
        compute_of().plan_sweep(config, bases)


def test_a_base_that_is_not_known_is_named(config: Path, compute_of: Open) -> None:
    with pytest.raises(kc.ConfigError, match="mars/Rover-9B"):
        compute_of().plan_sweep(config, [SMALL, "mars/Rover-9B"])


def test_adapters_are_called_as_their_bases_and_never_alike() -> None:
    bases = ["allenai/OLMo-7B", "./base/", "here/OLMo_7B", "/models/OLMo 7B", "///", "x" * 90]
    found = member_names(bases)
    assert found[:5] == ("olmo-7b", "base", "olmo-7b-2", "olmo-7b-3", "base-2")
    assert len(set(found)) == len(bases)


@pytest.mark.parametrize("preempt_at", [(), (300,)])
def test_one_run_one_receipt_an_adapter_for_each(
    config: Path, compute_of: Open, preempt_at: tuple[int, ...], tmp_path: Path
) -> None:
    compute = compute_of(preempt_at=preempt_at)
    planned = compute.plan_sweep(config, [SMALL, ALIKE], replace(FAKE, max_usd=Decimal(5)))
    run = compute.train(config, planned=planned.next_run(0, Decimal(0)))
    with pytest.raises(kc.RunError, match="no finished adapter"):
        run.download(tmp_path / "none")
    receipt = run.wait(poll_s=30)
    assert receipt.state is kc.RunState.DONE
    assert len(receipt.lines) == 1 + len(preempt_at)
    assert Decimal(0) < receipt.usd <= 5
    assert receipt.estimate_usd == planned.together_usd
    folder = run.download(tmp_path / "adapters")
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == [f"{name}/adapter_model.safetensors" for name in sorted(planned.names)]
    assert list(run.finished) == list(planned.names)
    for name, member in run.members.items():
        config_there = json.loads(member.store.get("input/config.json"))
        assert member_names([config_there["model"]["base_model_id"]]) == (name,)
