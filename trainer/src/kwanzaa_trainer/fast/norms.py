"""Norms in computing precision: torch's own kernels, which sum in 32 bits inside."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import layer_norm, rms_norm

LAYER_NORM_EPS = 1e-5
"""What OLMo's norm without weights uses."""


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A norm over the last dimension, root-mean-square or with the mean taken off."""

    weight: torch.Tensor | None
    eps: float
    takes_mean: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, normed."""
        width = x.shape[-1:]
        if self.takes_mean:
            return layer_norm(x, width, self.weight, None, self.eps)
        return rms_norm(x, width, self.weight, self.eps)


def read_norm(module: Any) -> Norm:
    """The norm that a transformers module stands for. Raises ValueError for one we do not know."""
    name = type(module).__name__
    if name == "OlmoLayerNorm":
        return Norm(None, LAYER_NORM_EPS, takes_mean=True)
    if name.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return Norm(module.weight.detach(), float(module.variance_epsilon), takes_mean=False)
    raise ValueError(f"it has a norm called {name}")
