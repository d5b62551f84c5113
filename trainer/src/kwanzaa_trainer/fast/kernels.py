"""Every Triton kernel of the fast path, each with the function that launches it.

Import it through `backend.kernels_for`: Triton is not there on every machine. Each function has a
plain twin in the module named after it, and a test that holds both against float64.
"""

from typing import Any

import torch
import triton
import triton.language as tl

NF4_TILE = 64
"""Quantisation blocks that one program unpacks."""
NF4_WARPS = 8
ELEMENTWISE_TILE = 1024
VOCABULARY_TILE = 4096


@triton.jit
def _unpack(
    packed, absmax, code, absmax2, offset, table, out, blocks,
    SIZE: tl.constexpr, SIZE2: tl.constexpr, NESTED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    half: tl.constexpr = SIZE // 2
    block = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = block < blocks
    if NESTED:
        index = tl.load(absmax + block, mask=inside, other=0).to(tl.int32)
        wide = tl.load(absmax2 + block // SIZE2, mask=inside, other=0.0)
        scale = tl.load(code + index) * wide + tl.load(offset)
    else:
        scale = tl.load(absmax + block, mask=inside, other=0.0)
    at = block[:, None] * half + tl.arange(0, half)[None, :]
    pair = tl.load(packed + at, mask=inside[:, None], other=0).to(tl.int32)
    high = tl.load(table + (pair >> 4)) * scale[:, None]
    low = tl.load(table + (pair & 15)) * scale[:, None]
    both = tl.interleave(high, low).to(out.dtype.element_ty)
    to = block[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    tl.store(out + to, both, mask=inside[:, None])


def unpack(packed: torch.Tensor, state: Any, out: torch.Tensor) -> None:
    """Writes the values of a bitsandbytes 4-bit weight into `out`, constants and all, at once."""
    blocks = out.numel() // state.blocksize
    nested = state.state2
    _unpack[(triton.cdiv(blocks, NF4_TILE),)](
        packed,
        state.absmax,
        nested.code if nested else state.absmax,
        nested.absmax if nested else state.absmax,
        state.offset if nested else state.absmax,
        state.code,
        out,
        blocks,
        SIZE=state.blocksize,
        SIZE2=nested.blocksize if nested else 1,
        NESTED=nested is not None,
        TILE=NF4_TILE,
        num_warps=NF4_WARPS,
    )


@triton.jit
def _rotate(
    x, cos, sin, out, HEADS: tl.constexpr, HALF: tl.constexpr,
    TILE: tl.constexpr, WIDTH: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, TILE)
    column = tl.arange(0, WIDTH)
    c = tl.load(cos + token * HALF + column, mask=column < HALF, other=0.0).to(tl.float32)
    s = tl.load(sin + token * HALF + column, mask=column < HALF, other=0.0).to(tl.float32)
    if BACKWARD:
        s = -s
    at = token * HEADS * HALF * 2 + head[:, None] * HALF * 2 + column[None, :]
    inside = (head[:, None] < HEADS) & (column[None, :] < HALF)
    first = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + at + HALF, mask=inside, other=0.0).to(tl.float32)
    to = out.dtype.element_ty
    tl.store(out + at, (first * c[None, :] - second * s[None, :]).to(to), mask=inside)
    tl.store(out + at + HALF, (second * c[None, :] + first * s[None, :]).to(to), mask=inside)


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, backward: bool
) -> torch.Tensor:
    """`x` of [tokens, heads, width], each half-pair turned by its token's angle."""
    x = x.contiguous()
    tokens, heads, width = x.shape
    out = torch.empty_like(x)
    half = width // 2
    _rotate[(tokens,)](
        x,
        cos,
        sin,
        out,
        HEADS=heads,
        HALF=half,
        TILE=triton.next_power_of_2(heads),
        WIDTH=triton.next_power_of_2(half),
        BACKWARD=backward,
        num_warps=4,
    )
    return out


@triton.jit
def _swiglu(gate, up, out, count, TILE: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < count
    g = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (g * tl.sigmoid(g) * u).to(out.dtype.element_ty), mask=inside)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up."""
    out = torch.empty_like(gate)
    count = gate.numel()
    _swiglu[(triton.cdiv(count, ELEMENTWISE_TILE),)](gate, up, out, count, TILE=ELEMENTWISE_TILE)
    return out


@triton.jit
def _swiglu_backward(gate, up, grad, count, TILE: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < count
    g = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(g)
    silu = g * share
    to = grad.dtype.element_ty
    tl.store(gate + at, (d * u * (share + silu * (1.0 - share))).to(to), mask=inside)
    tl.store(up + at, (d * silu).to(to), mask=inside)
    tl.store(grad + at, (silu * u).to(to), mask=inside)


def swiglu_backward(gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor) -> None:
    """In place: gate and up become their gradients, and `grad` becomes what `swiglu` returned."""
    count = gate.numel()
    _swiglu_backward[(triton.cdiv(count, ELEMENTWISE_TILE),)](
        gate, up, grad, count, TILE=ELEMENTWISE_TILE
    )


@triton.jit
def _kept(seed, at, least):
    mixed = (at.to(tl.uint32) * 0x9E3779B1) ^ seed.to(tl.uint32)
    mixed = (mixed ^ (mixed >> 16)) * 0x7FEB352D
    mixed = (mixed ^ (mixed >> 15)) * 0x846CA68B
    mixed = mixed ^ (mixed >> 16)
    return (mixed >> 1).to(tl.int32) >= least


@triton.jit
def _drop(x, out, seeds, site, width, least, scale, ADD: tl.constexpr, TILE: tl.constexpr):
    row = tl.program_id(1)
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = place < width
    at = row.to(tl.int64) * width + place
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    kept = _kept(tl.load(seeds + row) ^ site, place, least)
    value = tl.where(kept, value * scale, 0.0)
    if ADD:
        value += tl.load(out + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def drop(
    x: torch.Tensor, seeds: torch.Tensor, site: int, share: float, add_to: torch.Tensor | None
) -> torch.Tensor:
    """`x` without a random share of its numbers, the rest scaled up; added to `add_to` if given.

    `x` has a row for each seed, all of one size.
    """
    out = torch.empty_like(x) if add_to is None else add_to
    rows = seeds.numel()
    width = x.numel() // rows
    _drop[(triton.cdiv(width, ELEMENTWISE_TILE), rows)](
        x.contiguous(),
        out,
        seeds,
        site,
        width,
        int(share * 2**31),
        1.0 / (1.0 - share),
        ADD=add_to is not None,
        TILE=ELEMENTWISE_TILE,
    )
    return out


@triton.jit
def _cross_entropy(
    logits, wanted, weights, losses, words, IGNORED: tl.constexpr, TILE: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(wanted + row)
    here = logits + row * words
    largest = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    for start in range(0, words, TILE):
        at = start + tl.arange(0, TILE)
        value = tl.load(here + at, mask=at < words, other=float("-inf")).to(tl.float32)
        larger = tl.maximum(largest, value)
        # A lane that has seen nothing yet must not compute inf - inf.
        safe = tl.where(larger == float("-inf"), 0.0, larger)
        total = total * tl.exp(largest - safe) + tl.exp(value - safe)
        largest = larger
    peak = tl.max(largest, 0)
    log_sum = peak + tl.log(tl.sum(total * tl.exp(largest - peak), 0))
    is_learnt = target != IGNORED
    place = tl.where(is_learnt, target, 0)
    chosen = tl.load(here + place).to(tl.float32)
    factor = tl.load(weights + row)
    tl.store(losses + row, tl.where(is_learnt, (log_sum - chosen) * factor, 0.0))
    factor = tl.where(is_learnt, factor, 0.0)
    for start in range(0, words, TILE):
        at = start + tl.arange(0, TILE)
        value = tl.load(here + at, mask=at < words, other=float("-inf")).to(tl.float32)
        grad = (tl.exp(value - log_sum) - tl.where(at == place, 1.0, 0.0)) * factor
        tl.store(here + at, grad.to(logits.dtype.element_ty), mask=at < words)


def cross_entropy(
    logits: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, ignored: int
) -> torch.Tensor:
    """The weighted loss of each row in fp32; `logits` become their own gradient in place."""
    rows, words = logits.shape
    losses = torch.empty(rows, device=logits.device, dtype=torch.float32)
    _cross_entropy[(rows,)](
        logits, wanted, weights, losses, words, IGNORED=ignored, TILE=VOCABULARY_TILE, num_warps=8
    )
    return losses
