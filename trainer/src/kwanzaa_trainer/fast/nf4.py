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
    With `is_shared` there is one buffer for all slots: a fifth of the memory, half as much again
    to unpack.
    """

    dtype: torch.dtype
    is_shared: bool = False
    _buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    _holds: dict[str, Weight] = field(default_factory=dict)

    def values(self, weight: Weight) -> torch.Tensor:
        """The weight as [outputs, inputs] in computing precision; valid until the next block's."""
        if weight.state is None:
            return weight.data
        slot = "" if self.is_shared else weight.slot
        shape = torch.Size(weight.state.shape)
        values = self._buffer(slot, shape.numel(), weight.data.device)[: shape.numel()].view(shape)
        if self._holds.get(slot) is not weight:
            self._holds[slot] = weight
            unpack(weight, values)
        return values

    def forget(self) -> None:
        """Trusts no buffer any more: a replayed graph must not count on what was there before."""
        self._holds.clear()

    def _buffer(self, slot: str, size: int, device: torch.device) -> torch.Tensor:
        buffer = self._buffers.get(slot)
        if buffer is None or buffer.numel() < size or buffer.device != device:
            buffer = self._buffers[slot] = torch.empty(size, dtype=self.dtype, device=device)
            self._holds.pop(slot, None)
        return buffer
