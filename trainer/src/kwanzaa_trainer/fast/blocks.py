"""A decoder block of transformers, read into its parts, and computed from them.

OLMo, Llama, Mistral and Qwen norm what goes into attention and MLP; OLMo 2 and 3 norm what comes
out. Some norm queries and keys, whole or head by head; OLMo 1 may clip them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kwanzaa_trainer.fast.adapters import Adapters, read_sources
from kwanzaa_trainer.fast.attention import Layout, attend
from kwanzaa_trainer.fast.dropout import site_of
from kwanzaa_trainer.fast.lora import Group, Tools, linears, mlp
from kwanzaa_trainer.fast.nf4 import Weight
from kwanzaa_trainer.fast.norms import Norm, read_norm
from kwanzaa_trainer.fast.rotary import turned

GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""The linear layers of a block, those together that read the same input."""

Angles = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of every token, [tokens, half a head's width]."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The parts of one decoder block."""

    before_attention: Norm | None
    after_attention: Norm | None
    before_mlp: Norm | None
    after_mlp: Norm | None
    query_norm: Norm | None
    key_norm: Norm | None
    groups: tuple[Group, Group, Group, Group]
    head_width: int
    clip: float | None
    angles: str
    """Which of the model's tables of angles it turns by."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What every block of one micro-batch shares."""

    tools: Tools
    angles: dict[str, Angles]
    layout: Layout


def attention_half(block: Block, x: torch.Tensor, shared: Pass) -> torch.Tensor:
    """`x` of [tokens, width] plus what attention adds."""
    y = x if block.before_attention is None else block.before_attention(x)
    q, k, v = linears(y, block.groups[0], shared.tools)
    if block.clip is not None:
        q, k, v = (t.clamp(-block.clip, block.clip) for t in (q, k, v))
    angles = shared.angles[block.angles]
    q = turned(_heads(q, block.query_norm, block.head_width), *angles)
    k = turned(_heads(k, block.key_norm, block.head_width), *angles)
    y = attend(q, k, v.view(v.shape[0], -1, block.head_width), shared.layout)
    (y,) = linears(y, block.groups[1], shared.tools)
    return x + (y if block.after_attention is None else block.after_attention(y))


def mlp_half(
    block: Block, x: torch.Tensor, shared: Pass, *, wants_output: bool = True
) -> torch.Tensor:
    """What the MLP adds to `x`. Without `wants_output` only its gradient is right."""
    y = x if block.before_mlp is None else block.before_mlp(x)
    groups = block.groups[2], block.groups[3]
    needed = wants_output or block.after_mlp is not None
    y = mlp(y, groups, shared.tools, wants_output=needed)
    return y if block.after_mlp is None else block.after_mlp(y)


def _heads(x: torch.Tensor, norm: Norm | None, width: int) -> torch.Tensor:
    """`x` as [tokens, heads, width], normed as a whole or head by head."""
    is_by_head = norm is not None and norm.weight is not None and norm.weight.numel() == width
    if norm is not None and not (is_by_head and x.shape[1] != width):
        x = norm(x)
        norm = None
    x = x.view(x.shape[0], -1, width)
    return x if norm is None else norm(x)


@dataclass(frozen=True, slots=True)
class Decoder:
    """All blocks, with the adapters on them: those of one peft model, or of several."""

    blocks: tuple[Block, ...]
    adapters: tuple[Adapters, ...]


def read_decoder(layers: Any, dtype: torch.dtype, clip: float | None) -> Decoder:
    """The blocks of a transformers model. Raises ValueError where one is not understood."""
    modules = [[[_linear(layer, name) for name in names] for names in GROUPS] for layer in layers]
    adapters = Adapters([[read_sources(group) for group in block] for block in modules], dtype)
    blocks = []
    for number, (layer, groups) in enumerate(zip(layers, modules, strict=True)):
        made = [
            Group(
                tuple(_weight(m, n, dtype) for m, n in zip(linear, names, strict=True)),
                tuple(_bias(m) for m in linear),
                (adapters.groups[number][place],),
                site_of(number, place),
            )
            for place, (linear, names) in enumerate(zip(groups, GROUPS, strict=True))
        ]
        blocks.append(_block(layer, (made[0], made[1], made[2], made[3]), clip))
    return Decoder(tuple(blocks), (adapters,))


def side_by_side(decoders: Sequence[Decoder]) -> Decoder:
    """Decoders of the very same base as one, which carries all their adapters in that order."""
    blocks = []
    for same in zip(*(decoder.blocks for decoder in decoders), strict=True):
        groups = [
            replace(alike[0], lows=tuple(low for group in alike for low in group.lows))
            for alike in zip(*(block.groups for block in same), strict=True)
        ]
        blocks.append(replace(same[0], groups=(groups[0], groups[1], groups[2], groups[3])))
    return Decoder(tuple(blocks), tuple(one for each in decoders for one in each.adapters))


def _block(layer: Any, groups: tuple[Group, Group, Group, Group], clip: float | None) -> Block:
    attention = layer.self_attn
    width = int(attention.head_dim)
    if abs(attention.scaling - width**-0.5) > 1e-9:  # noqa: PLR2004 -- rounding of a square root
        raise ValueError("its attention has a scale of its own")
    # OLMo 2 and 3 have no norm before attention and name the two behind it differently.
    norms_inputs = hasattr(layer, "input_layernorm")
    after = _norm(layer, "post_attention_layernorm")
    return Block(
        before_attention=_norm(layer, "input_layernorm"),
        after_attention=None if norms_inputs else after,
        before_mlp=after if norms_inputs else None,
        after_mlp=_norm(layer, "post_feedforward_layernorm"),
        query_norm=_norm(attention, "q_norm"),
        key_norm=_norm(attention, "k_norm"),
        groups=groups,
        head_width=width,
        clip=clip,
        angles=str(getattr(attention, "attention_type", "")),
    )


def _linear(layer: Any, name: str) -> Any:
    parent = layer.self_attn if name in {*GROUPS[0], *GROUPS[1]} else layer.mlp
    module = getattr(parent, name, None)
    if module is None:
        raise ValueError(f"its blocks have no {name}")
    return module


def _weight(module: Any, slot: str, dtype: torch.dtype) -> Weight:
    parameter = getattr(module, "base_layer", module).weight
    state = getattr(parameter, "quant_state", None)
    if state is None and parameter.dtype is not dtype:
        raise ValueError(f"its {slot} is {parameter.dtype}, not {dtype}")
    return Weight(parameter.detach(), state, slot)


def _bias(module: Any) -> torch.Tensor | None:
    bias = getattr(module, "base_layer", module).bias
    if bias is not None and bias.requires_grad:
        raise ValueError("its biases are trained")
    return None if bias is None else bias.detach()


def _norm(owner: Any, name: str) -> Norm | None:
    module = getattr(owner, name, None)
    return None if module is None else read_norm(module)
