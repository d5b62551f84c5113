"""The fast path against the reference path: the same loss and gradients, family by family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.batches import collate
from kwanzaa_trainer.learner import answer_loss
from kwanzaa_trainer.model import Base, attach_adapter, load_base, trainable, twin
from kwanzaa_trainer.precision import Device, choose_precision

CPU = Device("CPU")
FP32 = choose_precision("no", CPU)
ROW = 64
SIZE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "OLMo": ("Olmo", {"num_key_value_heads": 4}),
    "OLMo with clipping": ("Olmo", {"clip_qkv": 0.05}),
    "OLMo 2": ("Olmo2", {}),
    "OLMo 3": ("Olmo3", {}),
    "Llama": ("Llama", {}),
    "Mistral": ("Mistral", {}),
    "Qwen 2": ("Qwen2", {}),
    "Qwen 3": ("Qwen3", {"head_dim": 32}),
}


def tiny(torch: Any, family: str, folder: Path, **changes: Any) -> Base:
    import transformers

    torch.manual_seed(1)
    name, own = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**SIZE, **own, **changes})
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name or "bias" in parameter_name:
            torch.nn.init.normal_(parameter, 1.0 if "norm" in parameter_name else 0.0, 0.2)
    model.save_pretrained(folder)
    return Base(str(folder))


def config_of(method: str = "lora", **lora: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "model": {"base_model_id": "example/tiny"},
            "data": {"train_file": "train.jsonl"},
            "adapter": {"method": method, "lora": {"r": 4, "alpha": 12, "dropout": 0.0, **lora}},
            "training": {"gradient_checkpointing": False},
        }
    )


def adapted(torch: Any, base: Base, config: TrainingConfig) -> Any:
    """A model with an adapter that already does something."""
    return busy(torch, attach_adapter(load_base(config, base, FP32, CPU), config))


def busy(torch: Any, model: Any) -> Any:
    """Its adapter already does something: B is not zero."""
    torch.manual_seed(2)
    for name, parameter in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def reference(model: Any, batch: Any, torch: Any) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of stock transformers and peft."""
    model.zero_grad()
    loss = answer_loss(model, batch, torch.device("cpu")) / batch.answers
    loss.backward()
    grads = {name: p.grad.clone() for name, p in trainable(model).items()}
    model.zero_grad()
    return float(loss.detach()), grads


def assert_same(model: Any, batch: Any, torch: Any, **path: Any) -> None:
    from kwanzaa_trainer.fast.path import make_fast_path

    loss, grads = reference(model, batch, torch)
    fast = make_fast_path(model, torch.float32, ROW)
    for name, value in path.items():
        setattr(fast, name, value)
    fast.begin_step()
    got = fast.learn(batch, 1 / batch.answers)
    assert float(got) == pytest.approx(loss, rel=2e-6)
    for name, parameter in trainable(model).items():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=2e-4, atol=2e-7)
    assert float(fast.measure(batch)) / batch.answers == pytest.approx(loss, rel=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_the_reference_path(
    torch: Any, samples: Callable[..., Any], family: str, tmp_path: Path
) -> None:
    base = tiny(torch, family, tmp_path)
    data = samples([40, 64, 9, 30, 17])
    whole = collate(data, [(0,), (1,)], 0)
    packed = collate(data, [(0, 4), (2, 3)], 0, length=ROW)
    for method in ("lora", "qlora"):
        model = adapted(torch, base, config_of(method))
        assert_same(model, whole, torch, recompute_every=1)
        assert_same(model, packed, torch, recompute_every=0)
        assert_same(model, packed, torch, recompute_every=2)


@pytest.mark.parametrize(
    "targets", [["q_proj", "v_proj"], ["down_proj"], ["k_proj", "o_proj", "up_proj"]]
)
def test_adapters_on_some_layers_only(
    torch: Any, samples: Callable[..., Any], tmp_path: Path, targets: list[str]
) -> None:
    base = tiny(torch, "Llama", tmp_path)
    model = adapted(torch, base, config_of(target_modules=targets))
    assert_same(model, collate(samples([40, 20]), [(0,), (1,)], 0), torch)


def test_a_packed_row_learns_what_its_samples_learn_alone(
    torch: Any, samples: Callable[..., Any], tmp_path: Path
) -> None:
    from kwanzaa_trainer.fast.path import make_fast_path

    model = adapted(torch, tiny(torch, "OLMo", tmp_path), config_of())
    data = samples([9, 30, 17, 5])
    packed = collate(data, [(0, 1, 2, 3)], 0, length=ROW)
    fast = make_fast_path(model, torch.float32, ROW)
    fast.begin_step()
    together = float(fast.learn(packed, 1.0))
    grads = [p.grad.clone() for p in trainable(model).values()]
    fast.begin_step()
    apart = sum(float(fast.learn(collate(data, [(i,)], 0), 1.0)) for i in range(4))
    assert together == pytest.approx(apart, rel=1e-6)
    for parameter, grad in zip(trainable(model).values(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-5)


def test_adapters_side_by_side_on_one_base_learn_what_each_learns_alone(
    torch: Any, samples: Callable[..., Any], tmp_path: Path
) -> None:
    from kwanzaa_trainer.fast.path import Piece, make_fast_path, side_by_side

    configs = [
        config_of("qlora", dropout=0.2),
        config_of("qlora", r=8, target_modules=["q_proj", "down_proj"]),
        config_of("qlora", target_modules=["v_proj", "up_proj"]),
    ]
    base = load_base(configs[0], tiny(torch, "Llama", tmp_path), FP32, CPU)
    models = [busy(torch, attach_adapter(twin(base), config)) for config in configs]
    assert models[0].get_base_model().lm_head.weight is base.lm_head.weight
    paths = [make_fast_path(model, torch.float32, ROW) for model in models]
    data = samples([40, 64, 9, 30, 17])
    pieces = [
        Piece(collate(data, [(0,), (1,)], 0), 0.1, [5, 6]),
        Piece(collate(data, [(0, 4), (2, 3)], 0, length=ROW), 0.2, [7, 8]),
        Piece(collate(data, [(4,)], 0), 0.3, [9]),
    ]
    alone = []
    for model, path, piece in zip(models, paths, pieces, strict=True):
        path.begin_step()
        loss = float(path.learn(piece.batch, piece.weight, piece.seeds))
        alone.append((loss, [p.grad.clone() for p in trainable(model).values()]))
        path.begin_step()
    for every in (0, 1):
        paths[1].recompute_every = every
        losses = side_by_side(paths).learn_each(pieces)
        for model, path, loss, (own, grads) in zip(models, paths, losses, alone, strict=True):
            assert float(loss) == pytest.approx(own, rel=1e-6)
            for parameter, grad in zip(trainable(model).values(), grads, strict=True):
                torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-6)
            path.begin_step()


def test_dropout_is_repeatable_and_its_gradient_is_that_of_its_own_loss(
    torch: Any, samples: Callable[..., Any], tmp_path: Path
) -> None:
    from kwanzaa_trainer.fast.path import make_fast_path

    model = adapted(torch, tiny(torch, "Llama", tmp_path), config_of(dropout=0.2))
    batch = collate(samples([40, 20]), [(0,), (1,)], 0)
    fast = make_fast_path(model, torch.float32, ROW)

    def learn(seed: int, every: int) -> tuple[float, Any]:
        fast.recompute_every = every
        fast.begin_step()
        loss = float(fast.learn(batch, 1.0, [seed, seed + 1]))
        return loss, torch.cat([p.grad.flatten() for p in trainable(model).values()])

    (first, grad), (again, same), (other, _) = learn(5, 0), learn(5, 1), learn(6, 0)
    assert first == again
    torch.testing.assert_close(grad, same)
    assert first != other
    # The slope along the gradient, by finite differences of the very same masks.
    size = 2e-3 / float(grad.norm())
    losses = []
    for move in (size, -2 * size):
        with torch.no_grad():
            for parameter, piece in zip(
                trainable(model).values(), _split(model, grad), strict=True
            ):
                parameter.add_(move * piece)
        losses.append(learn(5, 0)[0])
    slope = (losses[0] - losses[1]) / (2 * size)
    assert slope == pytest.approx(float(grad.norm()) ** 2, rel=1e-2)
    assert float(fast.measure(batch)) == pytest.approx(
        float(answer_loss(model.eval(), batch, torch.device("cpu")).detach()), rel=1e-5
    )


def _split(model: Any, flat: Any) -> list[Any]:
    parameters = list(trainable(model).values())
    pieces = flat.split([p.numel() for p in parameters])
    return [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]


def test_what_it_cannot_do_is_said_with_the_reason(torch: Any, tmp_path: Path) -> None:
    from kwanzaa_trainer.fast.path import make_fast_path

    def refusal(model: Any, dtype: Any = torch.float32, row: int = ROW) -> str:
        with pytest.raises(ValueError, match=r".") as caught:
            make_fast_path(model, dtype, row)
        return str(caught.value)

    base = tiny(torch, "Mistral", tmp_path, sliding_window=32)
    model = adapted(torch, base, config_of())
    assert "longer than its window of 32" in refusal(model)
    assert "fp16" in refusal(model, torch.float16)
    assert "not torch.bfloat16" in refusal(model, torch.bfloat16, 32)
    model.get_base_model().config.model_type = "gpt_neox"
    assert "architecture gpt_neox" in refusal(model)
    biased = adapted(torch, tiny(torch, "Qwen 2", tmp_path / "q"), config_of(bias="all"))
    assert "biases are trained" in refusal(biased)


def test_graphs_have_room_for_each_order_of_magnitude_of_samples() -> None:
    from kwanzaa_trainer.fast.graph import room_for

    assert [room_for(n) for n in (2, 16, 17, 64, 65, 257)] == [16, 16, 64, 64, 256, 1024]


def test_a_graph_is_reused_until_its_rows_change_and_computes_the_batch_at_hand(
    torch: Any, samples: Callable[..., Any], tmp_path: Path
) -> None:
    """Without a GPU what is captured launches each time it is replayed, on the same tensors."""
    from types import SimpleNamespace

    from kwanzaa_trainer.fast import graph
    from kwanzaa_trainer.fast.passes import learn
    from kwanzaa_trainer.fast.path import make_fast_path

    class Launching(graph.Replayer):
        captures = 0

        def _capture(self, feed: Any, recompute_every: int, room: int) -> Any:
            self.captures += 1
            mine, loss = graph._own(feed, room), torch.zeros(1)
            again = lambda: loss.copy_(learn(self._model, mine, recompute_every))  # noqa: E731
            return graph._Captured(SimpleNamespace(replay=again), mine, loss)

    model = adapted(torch, tiny(torch, "Llama", tmp_path), config_of())
    plain = make_fast_path(model, torch.float32, ROW, packs=True)
    fast = make_fast_path(model, torch.float32, ROW, packs=True)
    fast.replayer = replayer = Launching(fast.model)
    data = samples([9, 30, 17, 5, *[2] * 20])
    few, other, many = [(0, 1, 2)], [(3, 1)], [tuple(range(3, 24))]
    for rows, captures in ((few, 1), (other, 1), (many, 2), (few, 2), (few * 2, 3), (few, 4)):
        batch = collate(data, rows, 0, length=ROW)
        found = []
        for path in (plain, fast):
            path.begin_step()
            loss = float(path.learn(batch, 0.5))
            grads = torch.cat([p.grad.flatten() for p in trainable(model).values()])
            found.append((loss, grads))
        assert replayer.captures == captures
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
        torch.testing.assert_close(found[1][1], found[0][1])


def test_one_buffer_for_all_matrices_gives_the_same_gradients(
    torch: Any, samples: Callable[..., Any], tmp_path: Path
) -> None:
    from kwanzaa_trainer.fast.path import make_fast_path

    model = adapted(torch, tiny(torch, "OLMo", tmp_path), config_of("qlora"))
    batch = collate(samples([40, 20]), [(0,), (1,)], 0)
    found = []
    for is_shared in (False, True):
        fast = make_fast_path(model, torch.float32, ROW)
        fast.model.scratch.is_shared = is_shared
        fast.begin_step()
        loss = float(fast.learn(batch, 1.0))
        grads = torch.cat([p.grad.flatten() for p in trainable(model).values()])
        found.append((loss, grads, len(fast.model.scratch._buffers)))
    (loss, grads, buffers), (shared_loss, shared_grads, shared_buffers) = found
    assert (buffers, shared_buffers) == (7, 1)
    assert shared_loss == loss
    assert torch.equal(shared_grads, grads)


def test_where_torch_has_no_repeatable_way_the_run_goes_on_and_says_so(
    torch: Any, samples: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    from kwanzaa_trainer.fast import path

    model = adapted(torch, tiny(torch, "Llama", tmp_path), config_of())
    batch = collate(samples([40, 20]), [(0,), (1,)], 0)
    loss, grads = reference(model, batch, torch)
    learn, said = path.learn, []

    def refusing(parts: Any, *rest: Any) -> Any:
        if parts.repeatable:
            raise RuntimeError("attention does not have a deterministic implementation\nmore")
        return learn(parts, *rest)

    monkeypatch.setattr(path, "learn", refusing)
    fast = path.make_fast_path(model, torch.float32, ROW, repeatable=True)
    fast.complain = said.append
    fast.begin_step()
    assert float(fast.learn(batch, 1 / batch.answers)) == pytest.approx(loss, rel=2e-6)
    for name, parameter in trainable(model).items():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=2e-4, atol=2e-7)
    assert len(said) == 1
    assert "to tolerance" in said[0]
    assert "to the bit" not in fast.words
