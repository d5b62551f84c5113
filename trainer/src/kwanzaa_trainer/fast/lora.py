"""Linear layers of a frozen base with adapters on them, and the whole MLP, with their own autograd.

y = x W^T + s drop(x) A^T B^T. Against one module after the other that saves casts, keeps no
intermediate that is cheap to make again, and shares x A^T among layers that read the same x.
Only activations flow through autograd: the frozen weights have no gradient, and the adapters'
gradients are written where `Adapters.take` finds them. Several adapters share the product with W:
each has its own tokens in the micro-batch, and its low-rank products are with those alone.
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
    """Linear layers that read the same input, with what each adapter puts on them.

    `site` names its dropout.
    """

    weights: tuple[Weight, ...]
    biases: tuple[torch.Tensor | None, ...]
    lows: tuple[LowRank | None, ...]
    site: int


@dataclass(frozen=True, slots=True)
class Share:
    """One adapter's part of a micro-batch: its tokens lie together, and its dropout is its own."""

    tokens: slice
    dropout: Dropout


@dataclass(frozen=True, slots=True)
class Tools:
    """What products need beside their operands. There is a share for each adapter."""

    scratch: Scratch
    shares: tuple[Share, ...]


Narrow = list[torch.Tensor | None]
"""drop(x) A^T of each adapter's tokens; None where it has nothing on these layers."""


def products(x: torch.Tensor, group: Group, tools: Tools) -> tuple[list[torch.Tensor], Narrow]:
    """(each layer's output, what came through A) for `x` of [tokens, inputs]."""
    narrow: Narrow = [
        None if low is None else share.dropout.drop(x[share.tokens], group.site) @ low.a.t()
        for share, low in zip(tools.shares, group.lows, strict=True)
    ]
    outputs = []
    for number, (weight, bias) in enumerate(zip(group.weights, group.biases, strict=True)):
        values = tools.scratch.values(weight).t()
        y = x @ values if bias is None else torch.addmm(bias, x, values)
        for share, low, mine in zip(tools.shares, group.lows, narrow, strict=True):
            if low is not None and mine is not None and (b := low.b[number]) is not None:
                y[share.tokens].addmm_(mine[:, low.columns[number]], b.t())
        outputs.append(y)
    return outputs, narrow


def gradients(
    grads: Sequence[torch.Tensor], x: torch.Tensor, narrow: Narrow, group: Group, tools: Tools
) -> torch.Tensor:
    """The gradient by `x`; the adapters' gradients go into the group's own places."""
    dx = grads[0] @ tools.scratch.values(group.weights[0])
    for grad, weight in zip(grads[1:], group.weights[1:], strict=True):
        dx.addmm_(grad, tools.scratch.values(weight))
    for share, low, mine in zip(tools.shares, group.lows, narrow, strict=True):
        if low is not None and mine is not None:
            at = share.tokens
            d_narrow = _by_narrow([grad[at] for grad in grads], mine, low)
            torch.mm(d_narrow.t(), share.dropout.drop(x[at], group.site), out=low.grad_a)
            _add(d_narrow, low, share.dropout, group.site, dx[at])
    return dx


def _by_narrow(grads: Sequence[torch.Tensor], narrow: torch.Tensor, low: LowRank) -> torch.Tensor:
    """The gradient by what came through A; those by B go into their places."""
    d_narrow = torch.empty_like(narrow)
    for grad, b, grad_b, columns in zip(grads, low.b, low.grad_b, low.columns, strict=True):
        if b is None or grad_b is None:
            continue
        torch.mm(grad, b, out=d_narrow[:, columns])
        torch.addmm(grad_b, grad.t(), narrow[:, columns], beta=0, alpha=low.scale, out=grad_b)
    return d_narrow


def _add(
    d_narrow: torch.Tensor, low: LowRank, dropout: Dropout, site: int, dx: torch.Tensor
) -> None:
    """Adds to `dx`, in place, what comes back through A."""
    if dropout.share:
        dropout.drop(d_narrow @ low.a, site, add_to=dx)
    else:
        dx.addmm_(d_narrow, low.a)


class Linears(torch.autograd.Function):
    """The layers of one group."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: Group, tools: Tools) -> tuple[torch.Tensor, ...]:
        """One output a layer."""
        outputs, narrow = products(x, group, tools)
        ctx.save_for_backward(x, *narrow)
        ctx.context = (group, tools)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """By `x`."""
        x, *narrow = ctx.saved_tensors
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
        ctx.save_for_backward(x, gate, up, *narrow)
        ctx.context = (groups, tools)
        if not wants_output:
            return torch.empty_like(x)
        (y,), _ = products(swiglu(gate, up), groups[1], tools)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """By `x`."""
        x, gate, up, *narrow = ctx.saved_tensors
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
    pairs = zip(tools.shares, down.lows, strict=True)
    there = [(share, low) for share, low in pairs if low is not None]
    if not there:
        return d_product
    d_narrows = []
    for share, low in there:
        d_narrow = grad[share.tokens] @ _only(low.b)
        _add(d_narrow, low, share.dropout, down.site, d_product[share.tokens])
        d_narrows.append(d_narrow)
    swiglu_backward(gate, up, d_product)
    for (share, low), d_narrow in zip(there, d_narrows, strict=True):
        dropped = share.dropout.drop(d_product[share.tokens], down.site)
        torch.mm(d_narrow.t(), dropped, out=low.grad_a)
        grad_b, narrow, alpha = _only(low.grad_b), dropped @ low.a.t(), low.scale
        torch.addmm(grad_b, grad[share.tokens].t(), narrow, beta=0, alpha=alpha, out=grad_b)
    return None


def _only(matrices: tuple[torch.Tensor | None, ...]) -> torch.Tensor:
    """The matrix of a group of one layer, which has an adapter."""
    (matrix,) = matrices
    if matrix is None:
        raise ValueError("an adapter on no layer")
    return matrix


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
