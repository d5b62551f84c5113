"""Dropout whose mask is a pure function of (seed, site, place): nothing stored, all repeatable.

So the backward pass makes the same mask again, a captured CUDA graph makes a new one at each replay
(seeds are a tensor), and a resumed run makes the one that the interrupted run would have made. Each
row of a step has a seed of its own, so its masks are the same however the step is cut and whatever
else is in the micro-batch.
"""

import hashlib
from dataclasses import dataclass

import torch

from kwanzaa_trainer.fast.backend import kernels_for

WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Dropout:
    """A share of numbers to drop, with a seed for each row of a micro-batch (int64)."""

    share: float
    seeds: torch.Tensor

    def drop(
        self, x: torch.Tensor, site: int, *, add_to: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`x` with its share of zeros and the rest scaled up; added to `add_to` if given.

        The tokens of each row lie together in `x`, as many of each.
        """
        if not self.share:
            return x if add_to is None else add_to.add_(x)
        kernels = kernels_for(x)
        if kernels is not None:
            return kernels.drop(x, self.seeds, site, self.share, add_to)  # type: ignore[no-any-return]
        dropped = x * (keeps(x.shape, self.seeds, site, self.share) / (1 - self.share)).to(x.dtype)
        return dropped if add_to is None else add_to.add_(dropped)


def keeps(shape: torch.Size, seeds: torch.Tensor, site: int, share: float) -> torch.Tensor:
    """The mask, plainly: a mixing function of 32 bits over each number's place in its row."""
    width = shape.numel() // seeds.numel()
    at = torch.arange(width, device=seeds.device, dtype=torch.int64)
    mixed = (at * 0x9E3779B1 & WORD) ^ ((seeds[:, None] ^ site) & WORD)
    mixed = (mixed ^ (mixed >> 16)) * 0x7FEB352D & WORD
    mixed = (mixed ^ (mixed >> 15)) * 0x846CA68B & WORD
    mixed ^= mixed >> 16
    return ((mixed >> 1) >= int(share * 2**31)).view(shape)


def seed_of(run_seed: int, step: int, number: int) -> int:
    """The seed of a step's row, 31 bits: the same on every machine and after every stop."""
    digest = hashlib.sha256(f"dropout/{run_seed}/{step}/{number}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def site_of(block: int, group: int) -> int:
    """Where in the model a mask is for, spread over 31 bits so that no two sites share masks."""
    digest = hashlib.sha256(f"site/{block}/{group}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
