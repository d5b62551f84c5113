"""The frozen base model, the adapter on it, and the proof that the base stays as it was."""

import copy
import hashlib
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import ConfigError
from kwanzaa_trainer.precision import Device, Precision
from kwanzaa_trainer.shards import gathered, here, quantise

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CPU_QUANT_MULTIPLE = 64
"""bitsandbytes' CPU kernels crash on other widths (32 at least; 64 is its quantisation block)."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base model in a local folder, wherever it came from."""

    source: str


def load_tokenizer(base: Base) -> "PreTrainedTokenizerBase":
    """The base's tokenizer. Raises `ConfigError` where it cannot be used."""
    from transformers import AutoTokenizer

    with _explained(base):
        tokenizer = AutoTokenizer.from_pretrained(base.source, trust_remote_code=False)
    # Where the files are missing, transformers makes an empty one and says nothing.
    if not tokenizer("Umoja", add_special_tokens=False)["input_ids"]:
        raise ConfigError(
            f"there is no tokenizer in {base.source}", mend="save the tokenizer beside the base"
        )
    if not tokenizer.is_fast:
        raise ConfigError(
            f"the tokenizer of {base.source} is not a fast one, so answers cannot be located",
            mend="convert it once with transformers and save it beside the base",
        )
    return tokenizer


def load_base(
    config: TrainingConfig,
    base: Base,
    precision: Precision,
    device: Device,
    *,
    quantised: bool | None = None,
    in_pieces: bool = False,
) -> "PreTrainedModel":
    """The frozen base on its device. Raises `ConfigError` where it cannot be.

    In 4 bits where `quantised`; None means for qlora. A base to be cut into pieces stays in plain
    memory, because it may be more than the device holds.

    The dtype is always said: by default transformers takes the checkpoint's own, and OLMo's says
    float32, which doubles the memory of embedding and head.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _quieten()
    import_bitsandbytes()
    if quantised is None:
        quantised = config.adapter.quantized
    by_transformers = quantised and not in_pieces
    with _explained(base):
        model = AutoModelForCausalLM.from_pretrained(
            base.source,
            dtype=precision.torch_dtype,
            quantization_config=_quantization(config, precision) if by_transformers else None,
            device_map=None if in_pieces else {"": device.torch_device},
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
        )
    for parameter in model.parameters():
        parameter.requires_grad = False
    if quantised and in_pieces:
        quantise(model, config, precision, device)
    if quantised:
        _keep_quantised_weights_in_place(model, device)
    if config.training.tf32 and device.is_gpu:
        torch.backends.cuda.matmul.allow_tf32 = True
    return model


def import_bitsandbytes() -> None:
    """Imports bitsandbytes, with its plain formulas left plain; before any library does it.

    It wraps those in `torch.compile` as it is imported: a fifth of the time in which a trainer
    starts. They serve where there is no kernel, which is on a CPU, and compiled, a run would learn
    other last bits on a machine that has a C++ compiler than on one that has none.
    """
    import torch

    compile_ = torch.compile
    torch.compile = lambda function, **_options: function  # type: ignore[assignment]
    try:
        importlib.import_module("bitsandbytes")
    finally:
        torch.compile = compile_


def twin(base: "PreTrainedModel") -> "PreTrainedModel":
    """The same base as a model of its own, for another adapter: it shares every weight."""
    shared: dict[int, Any] = {}
    for tensor in (*base.parameters(), *base.buffers()):
        for kept in (tensor, getattr(tensor, "quant_state", None)):
            shared[id(kept)] = kept
    return copy.deepcopy(base, shared)


def attach_adapter(model: "PreTrainedModel", config: TrainingConfig) -> "PeftModel":
    """The model with a fresh LoRA adapter, ready to train.

    Raises `ConfigError` naming what there is where a target module does not exist.
    """
    from peft import LoraConfig, get_peft_model

    lora = config.adapter.lora
    targets = lora.target_modules
    if targets != "all-linear":
        _require_modules(model, targets)
    alpha = int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha
    adapter_config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=targets if isinstance(targets, str) else list(targets),
        revision=config.model.revision,
    )
    peft_model = get_peft_model(model, adapter_config)
    # What users load later is the repository that was trained on, not our scratch copy of it.
    native = config.model.native_base_model_id
    peft_model.peft_config["default"].base_model_name_or_path = native
    if config.training.gradient_checkpointing:
        set_recomputation(model, config, on=True)
    return peft_model


def set_recomputation(model: Any, config: TrainingConfig, *, on: bool) -> None:
    """Turns gradient checkpointing on or off, under the name that this transformers has for it."""
    word = "enable" if on else "disable"
    names = (f"activation_checkpointing_{word}", f"gradient_checkpointing_{word}")
    switch = next(getattr(model, name) for name in names if hasattr(model, name))
    if not on:
        switch()
        return
    switch({"use_reentrant": config.training.gradient_checkpointing_kwargs.use_reentrant})
    model.enable_input_require_grads()


def trainable(model: "torch.nn.Module") -> dict[str, "torch.nn.Parameter"]:
    """What is trained, by name, in the model's own order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def base_sha256(model: "torch.nn.Module") -> str:
    """One sha256 over every frozen parameter, with the constants of those that are quantised.

    Collective where the base is in pieces: every process calls it.
    """
    import torch

    digest = hashlib.sha256()
    frozen = {_bare(n): (n, p) for n, p in model.named_parameters() if not p.requires_grad}
    for bare in sorted(frozen):
        name, parameter = frozen[bare]
        constants = _constants(model, name, parameter)
        whole = gathered(parameter)
        if constants:  # 4-bit numbers are the same bytes, whatever they are stored as
            whole = whole.reshape(-1).view(torch.uint8).reshape(-1, 1)
        _feed(digest, bare, whole)
        for key, value in sorted(constants.items()):
            _feed(digest, f"{bare}.{key}", value)
    return digest.hexdigest()


def base_checksum(model: "torch.nn.Module") -> int:
    """A sum over the bytes of every frozen weight here, where they lie: cheap enough to repeat.

    The constants of quantised weights count as well. It finds memory that has gone bad, by any
    single changed bit; `base_sha256` proves more.
    """
    import torch

    total = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            continue
        for tensor in (here(parameter), *_constants(model, name, parameter).values()):
            if not isinstance(tensor, torch.Tensor) or not tensor.numel():
                continue
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            # Whole words, where they lie on whole words; what is left over byte by byte.
            whole = 0 if raw.storage_offset() % 4 else raw.numel() // 4 * 4
            total += int(raw[:whole].view(torch.int32).sum(dtype=torch.int64))
            total += int(raw[whole:].sum(dtype=torch.int64))
    return total % 2**64


def _constants(model: "torch.nn.Module", name: str, parameter: Any) -> dict[str, Any]:
    """What a quantised weight is unpacked with; nothing of others."""
    state = getattr(parameter, "quant_state", None)
    if state is None and name.endswith(".weight"):
        # A parameter in pieces has lost it; its module has it still.
        state = getattr(model.get_submodule(name.rpartition(".")[0]), "quant_state", None)
    return {} if state is None else dict(state.as_dict())


def _bare(name: str) -> str:
    """A parameter's name without what peft puts around it."""
    return name.replace("base_model.model.", "").replace(".base_layer", "")


def _feed(digest: Any, name: str, value: Any) -> None:
    import torch

    if not isinstance(value, torch.Tensor):
        digest.update(f"{name}={value!r};".encode())
        return
    digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(flat.numpy().data)


def _quantization(config: TrainingConfig, precision: Precision) -> Any:
    from transformers import BitsAndBytesConfig

    wish = config.adapter.quantization
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=wish.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=wish.bnb_4bit_use_double_quant,
        # Not bnb_4bit_compute_dtype as such: where the machine fell back, this must as well.
        bnb_4bit_compute_dtype=precision.torch_dtype,
    )


def _keep_quantised_weights_in_place(model: "PreTrainedModel", device: Device) -> None:
    """Stops bitsandbytes from rewriting the base on a CPU.

    On CPUs with avx512_bf16 its first gradient-free forward in eval mode repacks the NF4 weights
    *in place* and rounds their scales to bf16: the base's hash changes, and every later loss moves
    in its fifth digit, so a run with an evaluation in it would not equal its own resumption.
    """
    from bitsandbytes.nn import Linear4bit

    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
            if not device.is_gpu and module.in_features % CPU_QUANT_MULTIPLE:
                raise ConfigError(
                    f"{name} has {module.in_features} inputs; on a CPU 4-bit layers need a"
                    f" multiple of {CPU_QUANT_MULTIPLE}",
                    mend="use adapter.method: lora, or a GPU",
                )


def _require_modules(model: "PreTrainedModel", targets: tuple[str, ...]) -> None:
    import torch

    linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    missing = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in linears)]
    if missing:
        there = sorted({name.rsplit(".", 1)[-1] for name in linears} - {"lm_head"})
        raise ConfigError(
            f"{type(model).__name__} has no module called {', '.join(missing)};"
            f" its linear modules are {', '.join(there)}",
            mend="change adapter.lora.target_modules, or write all-linear",
        )


@contextmanager
def _explained(base: Base) -> Iterator[None]:
    """Makes a folder that cannot be loaded a `ConfigError`: another try would not mend it."""
    try:
        yield
    except (ValueError, KeyError, TypeError, ImportError, RuntimeError, OSError) as error:
        raise _unusable(base, error) from error
    except Exception as error:
        # safetensors raises a class of its own for a damaged file.
        if type(error).__name__ == "SafetensorError":
            raise _unusable(base, error) from error
        raise


def _unusable(base: Base, error: Exception) -> ConfigError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    mend = "check model.base_model_id and model.revision"
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        mend = "code from a repository is never run: name a repository in transformers' own format"
    return ConfigError(f"the base model {base.source} cannot be used: {said[0]}", mend=mend)


def _quieten() -> None:
    """Progress bars and advice of the libraries drown our own lines."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # It says that a faster CPU kernel could be fetched from the Hub; we want what is installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
