"""Linear layers of a frozen base with adapters on them, and the whole MLP, with their own autograd.

y = x W^T + s drop(x) A^T B^T. Against one module after the other that saves casts, keeps no
intermediate that is cheap to make again, and shares x A^T among layers that read the same x.
Only activations flow through autograd: the frozen weights have no gradient, and the adapters'
gradients are written where `Adapters.take` finds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kwanzaa_trainer.fast.adapters import LowRank
from kwanzaa_trainer.fast.dropout import Dropout
from kwanzaa_trainer.fast.nf4 import Scratch, Weight
from kwanzaa_trainer.fast.swiglu import swiglu, swiglu_backward


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Linear layers that read the same input, with their adapters. `site` names its dropout."""

    weights: tuple[Weight, ...]
    biases: tuple[torch.Tensor | None, ...]
    low: LowRank | None
    site: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What products need beside their operands."""

    scratch: Scratch
    dropout: Dropout


def products(
    x: torch.Tensor, group: Group, tools: Tools
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """(each layer's output, drop(x) A^T) for `x` of [tokens, inputs]."""
    low = group.low
    narrow = None if low is None else tools.dropout.drop(x, group.site) @ low.a.t()
    outputs = []
    for number, (weight, bias) in enumerate(zip(group.weights, group.biases, strict=True)):
        values = tools.scratch.values(weight).t()
        y = x @ values if bias is None else torch.addmm(bias, x, values)
        if low is not None and narrow is not None and (b := low.b[number]) is not None:
            y.addmm_(narrow[:, low.columns[number]], b.t())
        outputs.append(y)
    return outputs, narrow


def gradients(
    grads: Sequence[torch.Tensor],
    x: torch.Tensor,
    narrow: torch.Tensor | None,
    group: Group,
    tools: Tools,
) -> torch.Tensor:
    """The gradient by `x`; the adapters' gradients go into the group's own places."""
    dx = grads[0] @ tools.scratch.values(group.weights[0])
    for grad, weight in zip(grads[1:], group.weights[1:], strict=True):
        dx.addmm_(grad, tools.scratch.values(weight))
    low = group.low
    if low is None or narrow is None:
        return dx
    d_narrow = torch.empty_like(narrow)
    for grad, b, grad_b, columns in zip(grads, low.b, low.grad_b, low.columns, strict=True):
        if b is None or grad_b is None:
            continue
        torch.mm(grad, b, out=d_narrow[:, columns])
        torch.addmm(grad_b, grad.t(), narrow[:, columns], beta=0, alpha=low.scale, out=grad_b)
    torch.mm(d_narrow.t(), tools.dropout.drop(x, group.site), out=low.grad_a)
    if not tools.dropout.share:
        return dx.addmm_(d_narrow, low.a)
    return tools.dropout.drop(d_narrow @ low.a, group.site, add_to=dx)


class Linears(torch.autograd.Function):
    """The layers of one group."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: Group, tools: Tools) -> tuple[torch.Tensor, ...]:
        """One output a layer."""
        outputs, narrow = products(x, group, tools)
        ctx.save_for_backward(x, narrow)
        ctx.context = (group, tools)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """By `x`."""
        x, narrow = ctx.saved_tensors
        return gradients(grads, x, narrow, *ctx.context), None, None


class Mlp(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)).

    Keeps gate and up, makes their product again. Computed again only for its backward pass
    (`wants_output` False), it leaves out the product with `down`, a fifth of a block's work: nobody
    reads the output then, and what is returned is uninitialised.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, groups: tuple[Group, Group], tools: Tools, wants_output: bool,  # noqa: FBT001 -- autograd passes by position
    ) -> torch.Tensor:  # fmt: skip
        """`groups` are (gate and up, down)."""
        (gate, up), narrow = products(x, groups[0], tools)
        ctx.save_for_backward(x, narrow, gate, up)
        ctx.context = (groups, tools)
        if not wants_output:
            return torch.empty_like(x)
        (y,), _ = products(swiglu(gate, up), groups[1], tools)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """By `x`."""
        x, narrow, gate, up = ctx.saved_tensors
        (first, down), tools = ctx.context
        d_product = _through_down(grads[0], gate, up, down, tools)
        if d_product is not None:
            swiglu_backward(gate, up, d_product)
        return gradients((gate, up), x, narrow, first, tools), None, None, None


def _through_down(
    grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: Group, tools: Tools
) -> torch.Tensor | None:
    """Back through `down`; None where gate and up were already turned into their gradients.

    The adapter of `down` needs silu(gate) * up for its own gradient, and the same sweep that makes
    the gradients of gate and up makes it: so the order is product by B, sweep, then the rest.
    """
    d_product = grad @ tools.scratch.values(down.weights[0])
    low = down.low
    if low is None:
        return d_product
    b, grad_b = low.b[0], low.grad_b[0]
    if b is None or grad_b is None:
        return d_product
    d_narrow = grad @ b
    if tools.dropout.share:
        tools.dropout.drop(d_narrow @ low.a, down.site, add_to=d_product)
    else:
        d_product.addmm_(d_narrow, low.a)
    swiglu_backward(gate, up, d_product)
    dropped = tools.dropout.drop(d_product, down.site)
    torch.mm(d_narrow.t(), dropped, out=low.grad_a)
    narrow = dropped @ low.a.t()
    torch.addmm(grad_b, grad.t(), narrow, beta=0, alpha=low.scale, out=grad_b)
    return None


def linears(x: torch.Tensor, group: Group, tools: Tools) -> tuple[torch.Tensor, ...]:
    """Each layer's output, differentiable by `x`."""
    made: tuple[torch.Tensor, ...] = Linears.apply(x, group, tools)  # type: ignore[no-untyped-call]
    return made


def mlp(
    x: torch.Tensor, groups: tuple[Group, Group], tools: Tools, *, wants_output: bool
) -> torch.Tensor:
    """The gated MLP, differentiable by `x`."""
    made: torch.Tensor = Mlp.apply(x, groups, tools, wants_output)  # type: ignore[no-untyped-call]
    return made
