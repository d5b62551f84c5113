"""Every family of base: loaded from a folder, adapted, and trained for two steps."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import ConfigError
from kwanzaa_trainer.batches import collate
from kwanzaa_trainer.learner import answer_loss, make_learner, take_step
from kwanzaa_trainer.model import (
    Base,
    attach_adapter,
    base_sha256,
    load_base,
    load_tokenizer,
    trainable,
)
from kwanzaa_trainer.precision import Device, choose_precision

CPU = Device("CPU")
FP32 = choose_precision("no", CPU)

SIZE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
FAMILIES = {
    "Olmo": {"clip_qkv": 8.0},
    "Olmo2": {},
    "Olmo3": {"sliding_window": 8},
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Qwen2": {},  # DeepSeek's distillations are Qwen2 and Llama models
    "Qwen3": {"head_dim": 16},
}


def _tiny(torch: Any, family: str, folder: Path) -> Base:
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**SIZE, **FAMILIES[family])
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    return Base(str(folder))


def _config(**adapter: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "model": {"base_model_id": "example/tiny"},
            "data": {"train_file": "train.jsonl"},
            "adapter": {"lora": {"r": 4, "dropout": 0.0}, **adapter},
            "training": {"optim": "adamw_torch", "learning_rate": 0.01, "warmup_ratio": 0},
        }
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_and_keeps_packed_samples_apart(
    torch: Any, samples: Callable[..., Any], family: str, tmp_path: Path
) -> None:
    base = _tiny(torch, family, tmp_path)
    rows = samples([9, 30, 17, 5])
    packed, apart = [(0, 1, 2, 3)], [(0,), (1,), (2,), (3,)]
    for method in ("lora", "qlora"):
        config = _config(method=method)
        model = attach_adapter(load_base(config, base, FP32, CPU), config)
        before = base_sha256(model)
        here = torch.device("cpu")
        with torch.no_grad():
            together = float(answer_loss(model, collate(rows, packed, 0), here))
            single = sum(float(answer_loss(model, collate(rows, [r], 0), here)) for r in apart)
        assert together == pytest.approx(single, rel=1e-5)
        learner = make_learner(model, config, 2, FP32, CPU)
        losses = [take_step(learner, [collate(rows, packed, 0)]).loss for _ in range(2)]
        assert losses[1] < losses[0]
        assert base_sha256(model) == before
        assert all(p.dtype == torch.float32 for p in trainable(model).values())


def test_qlora_stores_the_base_in_4_bits_and_a_forward_leaves_it_alone(
    torch: Any, base: Path
) -> None:
    from bitsandbytes.nn import Linear4bit

    config = _config()
    model = load_base(config, Base(str(base)), FP32, CPU)
    layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 14
    assert all(m.weight.dtype == torch.uint8 and m.weight.quant_state.nested for m in layers)
    before = base_sha256(model)
    # The case that repacks weights in place on some CPUs: eval mode, no gradient.
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    assert base_sha256(model) == before


def test_the_hash_sees_a_single_changed_weight_and_not_the_adapter(torch: Any, base: Path) -> None:
    config = _config(method="lora")
    model = load_base(config, Base(str(base)), FP32, CPU)
    bare = base_sha256(model)
    adapted = attach_adapter(model, config)
    assert base_sha256(adapted) == bare
    for parameter in trainable(adapted).values():
        parameter.data.add_(1.0)
    assert base_sha256(adapted) == bare
    adapted.get_input_embeddings().weight.data[3, 3] += 1e-3
    assert base_sha256(adapted) != bare


def test_all_linear_adapts_every_linear_layer_but_the_head(torch: Any, base: Path) -> None:
    config = _config(method="lora", lora={"target_modules": "all-linear"})
    model = attach_adapter(load_base(config, Base(str(base)), FP32, CPU), config)
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trainable(model)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("damage", ["truncated", "no weights", "no config", "unknown type"])
def test_a_base_that_cannot_be_used_is_a_config_error(
    base: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no config":
        config.unlink()
    else:
        config.write_text(json.dumps({"model_type": "nobody", "auto_map": {}}))
    with pytest.raises(ConfigError, match="cannot be used"):
        load_base(_config(), Base(str(folder)), FP32, CPU)


def test_code_in_a_base_is_never_run(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    proof = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass C: ...\n")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as error:
        load_base(_config(), Base(str(folder)), FP32, CPU)
    assert "never run" in error.value.mend
    assert not proof.exists()


def test_a_missing_tokenizer_is_a_config_error(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    # transformers makes an empty one of the model's kind and says nothing.
    with pytest.raises(ConfigError, match="no tokenizer"):
        load_tokenizer(Base(str(folder)))


def test_bitsandbytes_compiles_nothing_and_others_still_may() -> None:
    code = (
        "import sys, torch\n"
        "from kwanzaa_trainer.model import import_bitsandbytes\n"
        "compile_ = torch.compile\n"
        "import_bitsandbytes()\n"
        "assert 'bitsandbytes' in sys.modules\n"
        "assert 'torch._inductor.compile_fx' not in sys.modules\n"
        "assert torch.compile is compile_\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
