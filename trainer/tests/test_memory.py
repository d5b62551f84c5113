"""Which rung is taken, with which reason, and how a run goes on when it was too high."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer import loading
from kwanzaa_trainer.memory import Case, as_written, choose, choose_abreast, ladder, lower
from kwanzaa_trainer.team import ALONE

OLMO_7B = {
    "model_type": "olmo",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 50304,
}


def case(*, method: str = "qlora", base: Any = OLMO_7B, why_not: str = "", **training: Any) -> Case:
    config = TrainingConfig.model_validate(
        {
            "model": {"base_model_id": "example/base"},
            "data": {"train_file": "train.jsonl"},
            "adapter": {"method": method},
            "training": training,
        }
    )
    return Case(config, base, "bf16", why_not)


def test_a_card_gets_the_fastest_rung_that_fits_and_hears_why() -> None:
    small, large = choose(case(), 11.5), choose(case(), 140)
    assert (small.footing.quantised, small.footing.rows) == (True, 1)
    assert small.footing.recompute_every in {2, 4}
    assert "11.5 GiB are there" in small.reason
    assert "would need" in small.reason
    assert not large.footing.quantised
    assert (large.footing.recompute_every, large.footing.rows) == (0, 4)
    assert choose(case(), 24).footing.needs_gib > small.footing.needs_gib


def test_every_rung_keeps_the_rows_of_a_step() -> None:
    for training in ({"gradient_accumulation_steps": 16}, {"gradient_accumulation_steps": 6}):
        for footing in ladder(case(**training)):
            assert training["gradient_accumulation_steps"] % footing.rows == 0


def test_lora_never_gets_a_quantised_base() -> None:
    assert not any(footing.quantised for footing in ladder(case(method="lora")))


def test_the_reference_path_needs_more_and_recomputes_all_or_nothing() -> None:
    rungs = ladder(case(why_not="there is no GPU"))
    assert {footing.recompute_every for footing in rungs} == {0, 1}
    fast = {(f.quantised, f.recompute_every, f.rows): f.needs_gib for f in ladder(case())}
    for footing in rungs:
        key = footing.quantised, footing.recompute_every, footing.rows
        assert footing.needs_gib > fast[key]


def test_as_written_is_as_written_and_a_card_too_small_gets_the_least() -> None:
    written = choose(case(memory_plan="as_written", gradient_checkpointing=False), 4)
    assert (written.footing.recompute_every, written.footing.rows) == (0, 1)
    assert choose(case(base={}), 100).footing == as_written(case().config)
    least = choose(case(), 3)
    assert least.footing.needs_gib == min(f.needs_gib for f in ladder(case()))
    assert "trying it" in least.reason


def on_cards(cards: int, **training: Any) -> Case:
    return replace(case(**training), cards=cards)


def test_two_cards_hold_the_base_each_while_it_fits_any_rung() -> None:
    one, two = choose(case(), 24).footing, choose(on_cards(2), 24).footing
    assert two == one
    assert choose(on_cards(8), 140).footing.rows == 1  # of sixteen rows each card has two


def test_where_no_card_holds_the_base_its_blocks_are_spread_and_the_log_hears_why() -> None:
    least = min(footing.needs_gib for footing in ladder(case()))
    choice = choose(on_cards(4), least - 0.5)
    assert choice.footing.pieces == 4
    assert choice.footing.quantised
    assert choice.footing.needs_gib <= least - 0.5
    assert f"one card alone would need {least:.1f} GiB" in choice.reason
    assert "pieces on 4 cards" in on_cards(4).on(choice.footing).why_not_fast


def test_the_config_may_forbid_pieces_or_want_them() -> None:
    least = min(footing.needs_gib for footing in ladder(case()))
    assert choose(on_cards(4, shard_base="never"), least - 0.5).footing.pieces == 1
    wanted = choose(on_cards(4, shard_base="always"), 140)
    assert wanted.footing.pieces == 4
    assert "shard_base is always" in wanted.reason
    assert choose(case(shard_base="always"), 140).footing.pieces == 1


def test_going_down_always_takes_less_and_ends() -> None:
    now, seen = replace(as_written(case().config), recompute_every=0, rows=16), []
    while (below := lower(case(), now)) is not None:
        assert below.needs_gib < (now.needs_gib or 1000)
        seen.append(now := below)
    assert seen[-1].needs_gib == min(f.needs_gib for f in ladder(case()))


@pytest.mark.parametrize(
    ("available", "adapters", "rows_a_step", "shared", "kept"),
    [
        (80, 4, 16, (4, 1), (2, 4)),
        (80, 2, 16, (2, 2), (2, 4)),
        (80, 8, 7, (8, 1), (8, 1)),
        (24, 4, 16, (1, 1), (1, 1)),
        (141, 4, 16, (4, 1), (4, 4)),
    ],
)
def test_as_many_adapters_go_at_once_as_fit_where_one_would_stand(
    available: float,
    adapters: int,
    rows_a_step: int,
    shared: tuple[int, int],
    kept: tuple[int, int],
) -> None:
    each = case(gradient_accumulation_steps=rows_a_step)
    found = [choose_abreast(each, adapters, available, shares_rows=way) for way in (True, False)]
    assert [(one.adapters, one.footing.rows) for one in found] == [shared, kept]
    alone = choose(each, available).footing
    chosen = found[0]
    assert (chosen.footing.quantised, chosen.footing.recompute_every) == (
        alone.quantised,
        alone.recompute_every,
    )
    assert "at once" in chosen.reason


TINY = {
    "adapter": {"lora": {"dropout": 0.0}},
    "training": {"max_steps": 5, "fast_path": "always"},
    "data": {"packing": True},
    "evaluation": {"strategy": "no"},
}


@pytest.fixture(autouse=True)
def _silent(monkeypatch: Any) -> None:
    """What the adapter says in the end is not asked here, and takes longer than all the rest."""
    monkeypatch.setattr("kwanzaa_trainer.train.greedy_answer", lambda *_, **__: "")


def losses(run: Any) -> list[float]:
    return [row["loss"] for row in run.folder.metrics() if row["kind"] == "train"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["always", "never"])
def test_a_run_that_is_short_of_memory_goes_on_with_what_fits_and_loses_nothing(
    make_run: Callable[..., Any], torch: Any, monkeypatch: Any, path: str
) -> None:
    from kwanzaa_trainer import learner

    changes = {**TINY, "training": {**TINY["training"], "fast_path": path}}
    calm = make_run(**changes)
    assert calm.train() == 0, calm.complaints()
    name = "_fast_gradients" if path == "always" else "_reference_gradients"
    gradients, calls = getattr(learner, name), []

    def short_at_the_second(*arguments: Any) -> Any:
        calls.append(len(arguments[-2]))  # the micro-batches
        made = gradients(*arguments)
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return made

    monkeypatch.setattr(learner, name, short_at_the_second)
    run = make_run(**changes)
    assert run.train() == 0, run.complaints()
    assert losses(run) == pytest.approx(losses(calm), rel=1e-5)
    assert calls[1] < calls[2]  # the same step in smaller pieces
    assert [event["rung"] for event in run.events("short_of_memory")]


@pytest.mark.slow
def test_a_base_that_was_too_large_is_loaded_anew_in_4_bits_and_the_run_goes_on(
    make_run: Callable[..., Any], torch: Any, monkeypatch: Any
) -> None:
    from kwanzaa_trainer import learner

    def wide(_: Any, on: Case, __: Any) -> Any:
        return replace(as_written(on.config), quantised=False, needs_gib=1e-4, rows=1)

    gradients, calls = learner._fast_gradients, []

    def short_at_the_third(*arguments: Any) -> Any:
        calls.append(arguments[0].model)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return gradients(*arguments)

    calm = make_run(**TINY)
    assert calm.train() == 0, calm.complaints()
    monkeypatch.setattr(loading, "_stand", wide)
    monkeypatch.setattr(
        "kwanzaa_trainer.loop.lower", lambda on, _: replace(as_written(on.config), rows=1)
    )
    monkeypatch.setattr(learner, "_fast_gradients", short_at_the_third)
    run = make_run(**TINY)
    assert run.train() == 0, run.complaints()
    steps = [row["step"] for row in run.folder.metrics() if row["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5]
    assert losses(run)[0] == pytest.approx(losses(calm)[0], rel=0.02)
    assert losses(run) != losses(calm)
    assert losses(run)[-1] == pytest.approx(losses(calm)[-1], rel=0.05)
    kinds = [{type(m).__name__ for m in model.modules()} for model in calls]
    assert "Linear4bit" not in kinds[0] | kinds[2]
    assert "Linear4bit" in kinds[3] & kinds[-1]


@pytest.mark.slow
def test_on_the_fast_path_a_stopped_run_resumes_to_the_bit_dropout_and_all(
    make_run: Callable[..., Any], torch: Any, monkeypatch: Any
) -> None:
    from kwanzaa_trainer import learner
    from kwanzaa_trainer.stopping import Stop

    changes = {**TINY, "adapter": {"lora": {"dropout": 0.1}}}
    whole, cut = make_run(**changes), make_run(**changes)
    assert whole.train() == 0, whole.complaints()
    stop, gradients = Stop(), learner._fast_gradients

    def asked_in_the_second_step(*arguments: Any) -> Any:
        if arguments[0].scheduler.last_epoch == 1:
            stop.ask("test")
        return gradients(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(learner, "_fast_gradients", asked_in_the_second_step)
        assert cut.train(stop=stop) == 75
    assert cut.checkpoints() == ["ckpt-2-1"]
    assert cut.train(attempt=2) == 0, cut.complaints()
    assert cut.losses() == whole.losses()
    assert cut.adapter() == whole.adapter()


def stepping(torch: Any) -> Any:
    """Two parameters under AdamW with their gradients: what `_update` knows of a learner."""
    from types import SimpleNamespace

    torch.manual_seed(3)
    parameters = {name: torch.nn.Parameter(torch.randn(4)) for name in ("a", "b")}
    inner = torch.optim.AdamW(parameters.values(), lr=0.1)
    wrapped = SimpleNamespace(optimizer=inner, step=inner.step, zero_grad=inner.zero_grad)
    for parameter in parameters.values():
        parameter.grad = torch.ones(4)
    return SimpleNamespace(optimizer=wrapped, parameters=parameters, team=ALONE)


def short_after_one(torch: Any, learner: Any) -> Callable[[], None]:
    """An optimizer step that moves the first parameter, makes its state, and then has no room."""
    inner = learner.optimizer.optimizer
    rest = learner.parameters["b"]

    def step() -> None:
        grad, rest.grad = rest.grad, None
        inner.step()
        rest.grad = grad
        raise torch.OutOfMemoryError

    return step


def test_a_first_optimizer_step_without_room_is_taken_back_to_the_bit(torch: Any) -> None:
    from kwanzaa_trainer.learner import _update

    calm, learner = stepping(torch), stepping(torch)
    before = {name: p.detach().clone() for name, p in learner.parameters.items()}
    step, learner.optimizer.step = learner.optimizer.step, short_after_one(torch, learner)
    assert not _update(learner)
    assert all(torch.equal(p, before[name]) for name, p in learner.parameters.items())
    assert not learner.optimizer.optimizer.state
    learner.optimizer.step = step
    assert _update(learner)
    assert _update(calm)
    assert all(torch.equal(p, calm.parameters[name]) for name, p in learner.parameters.items())


def test_a_later_optimizer_step_without_room_is_left_to_the_checkpoint(torch: Any) -> None:
    from kwanzaa_trainer.attempt import failure_of
    from kwanzaa_trainer.learner import _update
    from kwanzaa_trainer.memory import StepLostError

    learner = stepping(torch)
    assert _update(learner)
    learner.optimizer.step = short_after_one(torch, learner)
    with pytest.raises(StepLostError) as caught:
        _update(learner)
    assert failure_of(1, caught.value).retryable
