"""silu(gate) * up, and what its backward pass needs, in one sweep over memory each."""

import torch
from torch.nn.functional import silu

from kwanzaa_trainer.fast.backend import kernels_for


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up; both contiguous."""
    kernels = kernels_for(gate)
    if kernels is not None:
        return kernels.swiglu(gate, up)  # type: ignore[no-any-return]
    return silu(gate) * up


def swiglu_backward(gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor) -> None:
    """In place: gate and up become their gradients, and `grad` becomes what `swiglu` returned.

    The three are the widest tensors of a block, and nobody needs their old values any more.
    """
    kernels = kernels_for(gate)
    if kernels is not None:
        kernels.swiglu_backward(gate, up, grad)
        return
    share = torch.sigmoid(gate)
    smooth = gate * share
    product = smooth * up
    d_gate = grad * up * (share + smooth * (1 - share))
    up.copy_(grad * smooth)
    gate.copy_(d_gate)
    grad.copy_(product)
