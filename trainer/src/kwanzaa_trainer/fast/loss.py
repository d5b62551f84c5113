"""Cross-entropy through the output head, a chunk of tokens at a time.

All logits of a micro-batch at once would be the largest tensor of the run. Of a chunk we keep only
the loss and the gradient of what went into the head: the head is frozen, so that is all there is.
"""

import torch

from kwanzaa_trainer.data import IGNORED
from kwanzaa_trainer.fast.backend import kernels_for

CHUNK_TOKENS = 512
"""Fewest tokens of a chunk: their logits are what the smallest rung keeps."""
MOST_CHUNKS = 8
"""Wide micro-batches have memory for wider chunks, and large products are faster."""


def head_loss(
    hidden: torch.Tensor, head: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(each token's loss, their sum's gradient by `hidden`), of [tokens, width] against labels.

    A loss is multiplied by its token's weight, and 0 where nothing is learnt; in fp32.
    """
    grad = torch.empty_like(hidden)
    losses = []
    chunk = max(CHUNK_TOKENS, -(-hidden.shape[0] // MOST_CHUNKS))
    pieces = (torch.split(t, chunk) for t in (hidden, wanted, weights, grad))
    for piece, labels, factors, place in zip(*pieces, strict=True):
        logits = piece @ head.t()
        losses.append(cross_entropy(logits, labels, factors))
        torch.mm(logits, head, out=place)
    return torch.cat(losses), grad


def cross_entropy(
    logits: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The weighted loss of each row in fp32; `logits` become their own gradient in place."""
    kernels = kernels_for(logits)
    if kernels is not None:
        return kernels.cross_entropy(logits, wanted, weights, IGNORED)  # type: ignore[no-any-return]
    wide = logits.float()
    log_sum = torch.logsumexp(wide, -1)
    learnt = wanted != IGNORED
    place = wanted.clamp(min=0)[:, None]
    losses = (log_sum - wide.gather(1, place)[:, 0]) * learnt * weights
    grad = (wide - log_sum[:, None]).exp_()
    grad.scatter_add_(1, place, torch.full_like(grad[:, :1], -1.0))
    logits.copy_(grad * (learnt * weights)[:, None])
    return losses
