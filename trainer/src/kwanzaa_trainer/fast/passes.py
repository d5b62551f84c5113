"""One micro-batch through the model and back, block by block.

There is no checkpointing library here: the loop keeps for each block either its graph or only its
input, and on the way back makes the graph again where it was not kept. That costs nothing to the
last block, whose graph is needed at once, and nothing to the last product of any other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import embedding

from kwanzaa_trainer.fast import blocks
from kwanzaa_trainer.fast.attention import Layout, beside
from kwanzaa_trainer.fast.blocks import Angles, Block, Decoder, Pass, attention_half, mlp_half
from kwanzaa_trainer.fast.dropout import Dropout
from kwanzaa_trainer.fast.lora import Share, Tools
from kwanzaa_trainer.fast.loss import head_loss
from kwanzaa_trainer.fast.nf4 import Scratch
from kwanzaa_trainer.fast.norms import Norm

HOPPER = (9, 0)
Counts = tuple[int, int]
"""(rows, tokens)."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A causal language model in its parts. `tables` are its angles by position."""

    embedding: torch.Tensor
    decoder: Decoder
    norm: Norm
    head: torch.Tensor
    tables: dict[str, Angles]
    scratch: Scratch
    dropouts: tuple[float, ...]
    """Each adapter's own."""
    repeatable: bool = False
    """Two runs must agree to the bit, so attention's backward pass may not add as it comes."""


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """A micro-batch on its device, rows one after the other, those of each adapter together.

    `wanted` is for each token the one that should follow, `IGNORED` where nothing is learnt, and
    `weights` multiplies that token's loss. Each row has a seed for dropout. `shares` says how many
    rows and tokens are each adapter's.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    wanted: torch.Tensor
    weights: torch.Tensor
    seeds: torch.Tensor
    layout: Layout
    shares: tuple[Counts, ...]


def joined(feeds: Sequence[Feed]) -> Feed:
    """Micro-batches of several adapters as one."""
    if len(feeds) == 1:
        return feeds[0]

    def together(name: str) -> torch.Tensor:
        return torch.cat([getattr(feed, name) for feed in feeds])

    return Feed(
        ids=together("ids"),
        positions=together("positions"),
        wanted=together("wanted"),
        weights=together("weights"),
        seeds=together("seeds"),
        layout=beside([feed.layout for feed in feeds]),
        shares=tuple(share for feed in feeds for share in feed.shares),
    )


def side_by_side(models: Sequence[Model]) -> Model:
    """Models of the very same base as one that learns for all their adapters."""
    decoder = blocks.side_by_side([model.decoder for model in models])
    dropouts = tuple(share for model in models for share in model.dropouts)
    return replace(models[0], decoder=decoder, dropouts=dropouts)


@dataclass(slots=True)
class _Step:
    """A block on the way back: its input, and its output's graph unless it is to be made again."""

    block: Block
    x: torch.Tensor
    y: torch.Tensor | None


def learn(model: Model, feed: Feed, recompute_every: int) -> torch.Tensor:
    """Each adapter's weighted loss, [adapters]; gradients are added to the adapters' sums.

    `recompute_every` k makes every k-th block's activations again on the way back: 1 all of them
    and least memory, 0 none of them and least work.
    """
    model.scratch.forget()
    shared = _shared(model, feed, model.dropouts)
    with preferred_attention(feed.ids.device, repeatable=model.repeatable):
        hidden, steps = _forward(model, feed, shared, recompute_every)
        loss, grad = _top(model, feed, hidden)
        for number in reversed(range(len(steps))):
            step = steps.pop()
            grad = _back(step, grad, shared)
            for adapters in model.decoder.adapters:
                adapters.take(number)
    return loss


@torch.no_grad()
def measure(model: Model, feed: Feed) -> torch.Tensor:
    """Each adapter's weighted loss, [adapters], without dropout and without gradients."""
    model.scratch.forget()
    shared = _shared(model, feed, [0.0 for _ in model.dropouts])
    with preferred_attention(feed.ids.device, repeatable=model.repeatable):
        hidden = embedding(feed.ids, model.embedding)
        for block in model.decoder.blocks:
            hidden = _through(block, hidden, shared)
        losses, _ = head_loss(model.norm(hidden), model.head, feed.wanted, feed.weights)
        return _by_share(losses, feed)


def _by_share(losses: torch.Tensor, feed: Feed) -> torch.Tensor:
    pieces = torch.split(losses, [tokens for _, tokens in feed.shares])
    return torch.stack([piece.sum() for piece in pieces])


def _shared(model: Model, feed: Feed, dropouts: Sequence[float]) -> Pass:
    angles = {
        name: (cos[feed.positions], sin[feed.positions])
        for name, (cos, sin) in model.tables.items()
    }
    ends = list(accumulate((tokens for _, tokens in feed.shares), initial=0))
    seeds = torch.split(feed.seeds, [rows for rows, _ in feed.shares])
    shares = tuple(
        Share(slice(*tokens), Dropout(dropout, own))
        for tokens, dropout, own in zip(pairwise(ends), dropouts, seeds, strict=True)
    )
    return Pass(Tools(model.scratch, shares), angles, feed.layout)


def _forward(
    model: Model, feed: Feed, shared: Pass, recompute_every: int
) -> tuple[torch.Tensor, list[_Step]]:
    hidden = embedding(feed.ids, model.embedding)
    steps: list[_Step] = []
    last = len(model.decoder.blocks) - 1
    for number, block in enumerate(model.decoder.blocks):
        is_kept = number == last or not recompute_every or number % recompute_every != 0
        x = hidden.detach().requires_grad_(is_kept)
        with torch.set_grad_enabled(is_kept):
            y = _through(block, x, shared)
        steps.append(_Step(block, x, y if is_kept else None))
        hidden = y.detach()
    return hidden, steps


def _through(block: Block, x: torch.Tensor, shared: Pass) -> torch.Tensor:
    x = attention_half(block, x, shared)
    return x + mlp_half(block, x, shared)


def _top(model: Model, feed: Feed, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(each adapter's loss, gradient by what the last block returned)."""
    x = hidden.requires_grad_()
    with torch.enable_grad():
        y = model.norm(x)
    losses, grad = head_loss(y.detach(), model.head, feed.wanted, feed.weights)
    return _by_share(losses, feed), torch.autograd.grad(y, x, grad)[0]


def _back(step: _Step, grad: torch.Tensor, shared: Pass) -> torch.Tensor:
    """The gradient by the block's input."""
    if step.y is not None:
        return torch.autograd.grad(step.y, step.x, grad)[0]
    x = step.x.requires_grad_()
    with torch.enable_grad():
        middle = attention_half(step.block, x, shared)
        added = mlp_half(step.block, middle, shared, wants_output=False)
    return torch.autograd.grad((middle, added), x, (grad, grad))[0]


@contextmanager
def preferred_attention(device: torch.device, *, repeatable: bool) -> Iterator[None]:
    """Takes cuDNN's attention where it is fastest (378 against 693 us measured on an H200).

    Where runs must be repeatable it takes the one whose backward pass can be, and says so to torch.
    """
    if device.type != "cuda":
        yield
    elif repeatable:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]), _strict():
            yield
    elif torch.cuda.get_device_capability(device) < HOPPER:
        yield
    else:
        order = [
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ]
        with sdpa_kernel(order, set_priority=True):
            yield


@contextmanager
def _strict() -> Iterator[None]:
    """Only repeatable kernels: a mere warning would leave attention with its unordered one."""
    before = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=False)
    # Else every fresh tensor would be written over, which costs time and tells nothing.
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before, warn_only=lenient)
