"""Architectures of base models, as far as memory, disk and speed depend on them.

Import-light on purpose: the trainer plans its memory with it on the GPU machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

QUANTISABLE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a decoder block, in the names that all supported models use."""

FAST_FAMILIES = frozenset({"olmo", "olmo2", "olmo3", "llama", "mistral", "qwen2", "qwen3"})
"""The architectures, by their `model_type`, that the trainer's fast path knows."""

_BYTES_OF_DTYPE = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of one decoder-only transformer with a gated MLP.

    `hub_bytes` is the width of one parameter in the checkpoint that is downloaded, which is not
    the width that it is loaded in: OLMo-7B's `-hf` checkpoint is float32 on the Hub. `experts` and
    `active_experts` are 1 for dense models. `fast` says whether the trainer has a fast path for the
    architecture: it has for all of our table. `source` says where the figures come from.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool = False
    hub_bytes: int = 2
    experts: int = 1
    active_experts: int = 1
    max_positions: int = 2048
    fast: bool = True
    source: str = ""

    @property
    def kv_dim(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    @property
    def q_dim(self) -> int:
        """Width of the queries, and of what attention returns."""
        return self.heads * self.head_dim

    def linear(self, module: str) -> tuple[int, int]:
        """Inputs and outputs of a block's linear layer. Raises KeyError if there is none."""
        return {
            "q_proj": (self.hidden, self.q_dim),
            "k_proj": (self.hidden, self.kv_dim),
            "v_proj": (self.hidden, self.kv_dim),
            "o_proj": (self.q_dim, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }[module]

    @property
    def linear_params(self) -> int:
        """Parameters of all blocks' linear layers: what 4-bit loading quantises."""
        return self.layers * (self._attention + self.experts * self._mlp)

    @property
    def active_linear_params(self) -> int:
        """Those of them that one token passes through."""
        return self.layers * (self._attention + self.active_experts * self._mlp)

    @property
    def _attention(self) -> int:
        return 2 * self.hidden * (self.q_dim + self.kv_dim)

    @property
    def _mlp(self) -> int:
        return 3 * self.hidden * self.intermediate

    @property
    def head_params(self) -> int:
        """Parameters of the output head (the embedding's own, where they are tied)."""
        return self.vocab * self.hidden

    @property
    def unquantised_params(self) -> int:
        """Embedding, head and norms, which stay in 16 or 32 bits."""
        embeddings = self.head_params * (1 if self.tied else 2)
        return embeddings + (4 * self.layers + 1) * self.hidden

    @property
    def params(self) -> int:
        """All parameters."""
        return self.linear_params + self.unquantised_params

    @property
    def largest_linear(self) -> int:
        """Parameters of the largest linear layer: what one dequantisation buffer holds."""
        return max(ins * outs for ins, outs in map(self.linear, QUANTISABLE))

    @property
    def download_bytes(self) -> int:
        """Size of the checkpoint that a machine downloads."""
        return self.params * self.hub_bytes

    def lora_params(self, rank: int, modules: tuple[str, ...] | str = QUANTISABLE) -> int:
        """Parameters of an adapter of that rank on those modules; unknown names count nothing."""
        names = QUANTISABLE if isinstance(modules, str) else modules
        known = [name for name in names if name in QUANTISABLE]
        return self.layers * rank * sum(sum(self.linear(name)) for name in known)


def find_shape(model_id: str) -> ModelShape | None:
    """The shape of a model on the Hugging Face Hub that we know; None if we do not.

    The organisation counts, and so does the stage (`-Instruct`): they decide how wide the
    checkpoint's numbers are on the Hub.
    """
    return _BY_ID.get(model_id.strip().lower())


def known_models() -> tuple[str, ...]:
    """The repositories whose shape is in the table."""
    return tuple(sorted(_NAMES.values()))


def shape_from_config_json(config: Mapping[str, object], name: str = "") -> ModelShape:
    """The shape that a model's own `config.json` describes.

    Raises ValueError that names the key if one is missing or not a positive whole number.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = text
    hidden, heads = _whole(config, "hidden_size"), _whole(config, "num_attention_heads")
    dtype = config.get("torch_dtype") or config.get("dtype") or "bfloat16"
    expert_keys = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((_whole(config, key) for key in expert_keys if config.get(key)), 1)
    return ModelShape(
        name=name or str(config.get("_name_or_path") or config.get("model_type") or "model"),
        hidden=hidden,
        layers=_whole(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_whole(config, "num_key_value_heads", heads),
        head_dim=_whole(config, "head_dim", max(1, hidden // heads)),
        intermediate=_intermediate(config, experts),
        vocab=_whole(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        hub_bytes=_BYTES_OF_DTYPE.get(str(dtype).removeprefix("torch."), 2),
        experts=experts,
        active_experts=_whole(config, "num_experts_per_tok", 1) if experts > 1 else 1,
        max_positions=_whole(config, "max_position_embeddings", 2048),
        fast=config.get("model_type") in FAST_FAMILIES,
        source="config.json",
    )


def _intermediate(config: Mapping[str, object], experts: int) -> int:
    if experts > 1 and config.get("moe_intermediate_size"):
        return _whole(config, "moe_intermediate_size")
    return _whole(config, "intermediate_size")


def _whole(config: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if type(value) is not int or value < 1:
        raise ValueError(f"config.json: {key} must be a positive whole number, not {value!r}")
    return value


_CARD = "the model's published config.json"
_MEASURED = "the model's published config.json; weights and speed measured on an H200"

# fmt: off
_FAMILIES: dict[str, ModelShape] = {
    # name, hidden, layers, heads, kv heads, head dim, intermediate, vocabulary
    "olmo-1b": ModelShape("OLMo 1B", 2048, 16, 16, 16, 128, 8192, 50304, tied=True, hub_bytes=4, max_positions=2048, source=_CARD),  # noqa: E501
    "olmo-7b": ModelShape("OLMo 7B", 4096, 32, 32, 32, 128, 11008, 50304, hub_bytes=4, max_positions=2048, source=_MEASURED),  # noqa: E501
    "olmo2-1b": ModelShape("OLMo 2 1B", 2048, 16, 16, 16, 128, 8192, 100352, max_positions=4096, source=_CARD),  # noqa: E501
    "olmo2-7b": ModelShape("OLMo 2 7B", 4096, 32, 32, 32, 128, 11008, 100352, max_positions=4096, source=_CARD),  # noqa: E501
    "olmo2-13b": ModelShape("OLMo 2 13B", 5120, 40, 40, 40, 128, 13824, 100352, max_positions=4096, source=_CARD),  # noqa: E501
    "olmo3-7b": ModelShape("Olmo 3 7B", 4096, 32, 32, 32, 128, 11008, 100278, max_positions=65536, source=_CARD),  # noqa: E501
    "llama3-8b": ModelShape("Llama 3 8B", 4096, 32, 32, 8, 128, 14336, 128256, max_positions=8192, source=_CARD),  # noqa: E501
    "llama3-70b": ModelShape("Llama 3 70B", 8192, 80, 64, 8, 128, 28672, 128256, max_positions=8192, source=_CARD),  # noqa: E501
    "llama3.2-1b": ModelShape("Llama 3.2 1B", 2048, 16, 32, 8, 64, 8192, 128256, tied=True, max_positions=131072, source=_CARD),  # noqa: E501
    "llama3.2-3b": ModelShape("Llama 3.2 3B", 3072, 28, 24, 8, 128, 8192, 128256, tied=True, max_positions=131072, source=_CARD),  # noqa: E501
    "mistral-7b": ModelShape("Mistral 7B", 4096, 32, 32, 8, 128, 14336, 32768, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen2.5-0.5b": ModelShape("Qwen2.5 0.5B", 896, 24, 14, 2, 64, 4864, 151936, tied=True, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen2.5-1.5b": ModelShape("Qwen2.5 1.5B", 1536, 28, 12, 2, 128, 8960, 151936, tied=True, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen2.5-3b": ModelShape("Qwen2.5 3B", 2048, 36, 16, 2, 128, 11008, 151936, tied=True, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen2.5-7b": ModelShape("Qwen2.5 7B", 3584, 28, 28, 4, 128, 18944, 152064, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen2.5-14b": ModelShape("Qwen2.5 14B", 5120, 48, 40, 8, 128, 13824, 152064, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen2.5-32b": ModelShape("Qwen2.5 32B", 5120, 64, 40, 8, 128, 27648, 152064, max_positions=32768, source=_CARD),  # noqa: E501
    "qwen3-0.6b": ModelShape("Qwen3 0.6B", 1024, 28, 16, 8, 128, 3072, 151936, tied=True, max_positions=40960, source=_CARD),  # noqa: E501
    "qwen3-1.7b": ModelShape("Qwen3 1.7B", 2048, 28, 16, 8, 128, 6144, 151936, tied=True, max_positions=40960, source=_CARD),  # noqa: E501
    "qwen3-4b": ModelShape("Qwen3 4B", 2560, 36, 32, 8, 128, 9728, 151936, tied=True, max_positions=40960, source=_CARD),  # noqa: E501
    "qwen3-8b": ModelShape("Qwen3 8B", 4096, 36, 32, 8, 128, 12288, 151936, max_positions=40960, source=_CARD),  # noqa: E501
    "qwen3-14b": ModelShape("Qwen3 14B", 5120, 40, 40, 8, 128, 17408, 151936, max_positions=40960, source=_CARD),  # noqa: E501
    "qwen3-32b": ModelShape("Qwen3 32B", 5120, 64, 64, 8, 128, 25600, 151936, max_positions=40960, source=_CARD),  # noqa: E501
}
# fmt: on

_REPOSITORIES: dict[str, tuple[str, ...]] = {
    "olmo-1b": ("allenai/OLMo-1B", "allenai/OLMo-1B-hf"),
    "olmo-7b": (
        "allenai/OLMo-7B",
        "allenai/OLMo-7B-hf",
        "allenai/OLMo-7B-Instruct",
        "allenai/OLMo-7B-Instruct-hf",
        "allenai/OLMo-7B-SFT",
        "allenai/OLMo-7B-SFT-hf",
        "allenai/OLMo-7B-Twin-2T",
        "allenai/OLMo-7B-Twin-2T-hf",
    ),
    "olmo2-1b": ("allenai/OLMo-2-0425-1B", "allenai/OLMo-2-0425-1B-Instruct"),
    "olmo2-7b": ("allenai/OLMo-2-1124-7B", "allenai/OLMo-2-1124-7B-Instruct"),
    "olmo2-13b": ("allenai/OLMo-2-1124-13B", "allenai/OLMo-2-1124-13B-Instruct"),
    "olmo3-7b": (
        "allenai/Olmo-3-1025-7B",
        "allenai/Olmo-3-7B-Instruct",
        "allenai/Olmo-3-7B-Think",
    ),
    "llama3-8b": (
        "meta-llama/Meta-Llama-3-8B",
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "meta-llama/Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    ),
    "llama3-70b": (
        "meta-llama/Llama-3.3-70B-Instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
    ),
    "llama3.2-1b": ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"),
    "llama3.2-3b": ("meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct"),
    "mistral-7b": ("mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"),
    "qwen2.5-0.5b": ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"),
    "qwen2.5-1.5b": (
        "Qwen/Qwen2.5-1.5B",
        "Qwen/Qwen2.5-1.5B-Instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    ),
    "qwen2.5-3b": ("Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-3B-Instruct"),
    "qwen2.5-7b": (
        "Qwen/Qwen2.5-7B",
        "Qwen/Qwen2.5-7B-Instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    ),
    "qwen2.5-14b": (
        "Qwen/Qwen2.5-14B",
        "Qwen/Qwen2.5-14B-Instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    ),
    "qwen2.5-32b": (
        "Qwen/Qwen2.5-32B",
        "Qwen/Qwen2.5-32B-Instruct",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    ),
    "qwen3-0.6b": ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base"),
    "qwen3-1.7b": ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-1.7B-Base"),
    "qwen3-4b": ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B-Base", "Qwen/Qwen3-4B-Instruct-2507"),
    "qwen3-8b": (
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-8B-Base",
        "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    ),
    "qwen3-14b": ("Qwen/Qwen3-14B", "Qwen/Qwen3-14B-Base"),
    "qwen3-32b": ("Qwen/Qwen3-32B",),
}

_NAMES = {name.lower(): name for names in _REPOSITORIES.values() for name in names}
_BY_ID = {
    name.lower(): _FAMILIES[family] for family, names in _REPOSITORIES.items() for name in names
}
