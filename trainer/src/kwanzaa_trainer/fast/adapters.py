"""peft's LoRA matrices in computing precision, and their gradients where the optimizer looks.

peft's parameters stay what is trained, saved and loaded, in 32 bits. Computing needs them in 16:
one flat copy, made anew once a step and not once a product. Gradients of a micro-batch are summed
into one flat tensor of 32 bits, of which each parameter's `.grad` is a view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

ADAPTER = "default"


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The adapters of linear layers that read the same input; None for a layer that has none.

    `a` holds their A one below the other, [ranks, inputs]; `columns` says which of its rows are
    whose. Each of `b` is [outputs, rank] and already scaled by `scale`.
    """

    a: torch.Tensor
    b: tuple[torch.Tensor | None, ...]
    columns: tuple[slice | None, ...]
    scale: float
    grad_a: torch.Tensor
    grad_b: tuple[torch.Tensor | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What one `LowRank` is copied from: peft's parameters, in the order of the flat copy."""

    a: tuple[torch.nn.Parameter | None, ...]
    b: tuple[torch.nn.Parameter | None, ...]
    scale: float

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """All A, then all B."""
        return [p for p in (*self.a, *self.b) if p is not None]


def read_sources(modules: Sequence[Any]) -> Sources | None:
    """The adapters of linear modules that read the same input; None where not one has any.

    Raises ValueError where they have something that the fast path does not compute.
    """
    layers = [module if hasattr(module, "lora_A") else None for module in modules]
    there = [layer for layer in layers if layer is not None]
    if not there:
        return None
    for layer in there:
        _require_plain(layer)
    if len({layer.scaling[ADAPTER] for layer in there}) > 1:
        raise ValueError("its adapters have different scales")
    return Sources(
        tuple(layer and layer.lora_A[ADAPTER].weight for layer in layers),
        tuple(layer and layer.lora_B[ADAPTER].weight for layer in layers),
        float(there[0].scaling[ADAPTER]),
    )


def _require_plain(layer: Any) -> None:
    if list(layer.lora_A) != [ADAPTER] or layer.merged or layer.disable_adapters:
        raise ValueError("it has more than one adapter, or a merged one")
    if any(layer.use_dora.values()) or any(layer.lora_bias.values()):
        raise ValueError("its adapter is DoRA or has biases")


class Adapters:
    """All of a model's adapters: flat copies, flat gradients, and a `LowRank` for each group."""

    def __init__(self, blocks: Sequence[Sequence[Sources | None]], dtype: torch.dtype) -> None:
        """`blocks` are the groups of each decoder block."""
        self._blocks = [[s for s in block if s is not None] for block in blocks]
        sizes = [sum(p.numel() for s in block for p in s.parameters) for block in self._blocks]
        self._parameters = [p for block in self._blocks for s in block for p in s.parameters]
        if not self._parameters:
            raise ValueError("it has no adapter on a linear layer of a block")
        device = self._parameters[0].device
        self._copies = torch.empty(sum(sizes), dtype=dtype, device=device)
        self._sums = torch.zeros(sum(sizes), dtype=torch.float32, device=device)
        self._fresh = torch.zeros(max(sizes), dtype=dtype, device=device)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._places = [slice(a, a + size) for a, size in zip(starts, sizes, strict=True)]
        self._targets = _views(self._copies, self._parameters)
        self._grads = _views(self._sums, self._parameters)
        self.groups = [
            self._low_ranks(block, self._copies[place], self._fresh[: place.stop - place.start])
            for block, place in zip(blocks, self._places, strict=True)
        ]

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Peft's parameters."""
        return self._parameters

    def begin_step(self) -> None:
        """Takes the parameters as they now are; every gradient is zero."""
        self.refresh()
        self._sums.zero_()
        for parameter, grad in zip(self._parameters, self._grads, strict=True):
            parameter.grad = grad

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes the parameters as they now are."""
        torch._foreach_copy_(self._targets, list(self._parameters))
        for block in self.groups:
            for low in block:
                if low is not None and low.scale != 1.0:
                    torch._foreach_mul_([b for b in low.b if b is not None], low.scale)

    def take(self, block: int) -> None:
        """Adds the gradients that a block's backward pass has just left."""
        place = self._places[block]
        self._sums[place].add_(self._fresh[: place.stop - place.start])

    @staticmethod
    def _low_ranks(
        block: Sequence[Sources | None], copies: torch.Tensor, fresh: torch.Tensor
    ) -> list[LowRank | None]:
        made: list[LowRank | None] = []
        at = 0
        for sources in block:
            if sources is None:
                made.append(None)
                continue
            size = sum(p.numel() for p in sources.parameters)
            made.append(_low_rank(sources, copies[at : at + size], fresh[at : at + size]))
            at += size
        return made


def _low_rank(sources: Sources, copy: torch.Tensor, fresh: torch.Tensor) -> LowRank:
    ranks = [0 if a is None else a.shape[0] for a in sources.a]
    inputs = next(a.shape[1] for a in sources.a if a is not None)
    ends = [sum(ranks[: i + 1]) for i in range(len(ranks))]
    width = ends[-1] * inputs
    there = [b for b in sources.b if b is not None]
    b_views, grad_views = iter(_views(copy[width:], there)), iter(_views(fresh[width:], there))
    return LowRank(
        a=copy[:width].view(-1, inputs),
        b=tuple(b if b is None else next(b_views) for b in sources.b),
        columns=tuple(slice(e - r, e) if r else None for e, r in zip(ends, ranks, strict=True)),
        scale=sources.scale,
        grad_a=fresh[:width].view(-1, inputs),
        grad_b=tuple(b if b is None else next(grad_views) for b in sources.b),
    )


def _views(flat: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Pieces of `flat`, one after the other, in the shapes of `like`."""
    sizes = [t.numel() for t in like]
    pieces = torch.split(flat[: sum(sizes)], sizes)
    return [piece.view(t.shape) for piece, t in zip(pieces, like, strict=True)]
