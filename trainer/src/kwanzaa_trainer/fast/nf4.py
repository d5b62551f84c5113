"""The frozen base's weights in computing precision, unpacked where they are stored in 4 bits."""

from dataclasses import dataclass, field
from typing import Any

import torch

from kwanzaa_trainer.fast.backend import kernels_for


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """One frozen matrix: its numbers, and bitsandbytes' constants where they are packed.

    `slot` names its place in a block, "q_proj" say: the same for every block.
    """

    data: torch.Tensor
    state: Any
    slot: str


def unpack(weight: Weight, out: torch.Tensor) -> None:
    """Writes a packed weight's values into `out`, which has its shape."""
    kernels = kernels_for(out)
    state = weight.state
    if kernels is not None and out.numel() % state.blocksize == 0:
        kernels.unpack(weight.data, state, out)
        return
    from bitsandbytes.functional import dequantize_4bit

    out.copy_(dequantize_4bit(weight.data, state))


@dataclass(slots=True)
class Scratch:
    """One buffer for each slot of a block, with the weight that it holds at the moment.

    So what was unpacked to compute a block again is still there for that block's backward pass.
    """

    dtype: torch.dtype
    _buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    _holds: dict[str, Weight] = field(default_factory=dict)

    def values(self, weight: Weight) -> torch.Tensor:
        """The weight as [outputs, inputs] in computing precision; valid until the next block's."""
        if weight.state is None:
            return weight.data
        if self._holds.get(weight.slot) is not weight:
            self._holds[weight.slot] = weight
            unpack(weight, self._buffer(weight))
        return self._buffers[weight.slot]

    def forget(self) -> None:
        """Trusts no buffer any more: a replayed graph must not count on what was there before."""
        self._holds.clear()

    def _buffer(self, weight: Weight) -> torch.Tensor:
        shape = torch.Size(weight.state.shape)
        buffer = self._buffers.get(weight.slot)
        if buffer is None or buffer.shape != shape or buffer.device != weight.data.device:
            buffer = torch.empty(shape, dtype=self.dtype, device=weight.data.device)
            self._buffers[weight.slot] = buffer
        return buffer
