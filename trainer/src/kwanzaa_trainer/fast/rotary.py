"""Rotary positions: each half-pair of a head turned by its token's angle."""

from typing import Any

import torch

from kwanzaa_trainer.fast.backend import kernels_for


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, backward: bool = False
) -> torch.Tensor:
    """`x` of [tokens, heads, width] turned by [tokens, width / 2] angles, or turned back."""
    kernels = kernels_for(x)
    if kernels is not None:
        return kernels.rotate(x, cos, sin, backward=backward)  # type: ignore[no-any-return]
    c, s = cos[:, None], (-sin if backward else sin)[:, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * c - second * s, second * c + first * s), dim=-1)


class Rotary(torch.autograd.Function):
    """`rotate` with its gradient, which is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Turns."""
        ctx.angles = (cos, sin)
        return rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Turns back."""
        return rotate(grads[0], *ctx.angles, backward=True), None, None


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`rotate`, differentiable."""
    made: torch.Tensor = Rotary.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return made
