"""Causal attention over whole rows, or over the samples that are packed into them.

torch's own kernels only: on a GPU its variable-length attention for packed rows, which never looks
from one sample into another; nothing has to be built.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How the tokens of a micro-batch lie: `rows` of `length`.

    `bounds` is None where each row is one sample. Else it holds where samples begin, counted over
    all rows, and the end (int32); a bound may repeat, a sample without tokens is none.
    """

    rows: int
    length: int
    bounds: torch.Tensor | None = None


def beside(layouts: Sequence[Layout]) -> Layout:
    """Several layouts, the tokens of one behind those of the other, as one."""
    lengths = {layout.length for layout in layouts}
    rows = sum(layout.rows for layout in layouts)
    if len(lengths) == 1 and all(layout.bounds is None for layout in layouts):
        return Layout(rows, layouts[0].length)
    bounds, at = [], 0
    for layout in layouts:
        mine = layout.bounds
        if mine is None:
            end = layout.rows * layout.length
            mine = torch.arange(0, end + 1, layout.length, dtype=torch.int32)
        # Of two that meet only one is needed; of all, the last one's end.
        bounds.append((mine[:-1] + at, mine[-1:] + at))
        at += layout.rows * layout.length
    device = next((x.bounds.device for x in layouts if x.bounds is not None), None)
    pieces = [*(starts for starts, _ in bounds), bounds[-1][1]]
    return Layout(rows, max(lengths), torch.cat([piece.to(device) for piece in pieces]))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout) -> torch.Tensor:
    """[tokens, heads * width] from [tokens, heads, width] each; k and v may have fewer heads."""
    bounds = layout.bounds
    if bounds is None:
        return _by_rows(q, k, v, layout.rows)
    if q.is_cuda:
        return _by_bounds(q, k, v, bounds, layout.length)
    ends = bounds.tolist()
    spans = [slice(a, b) for a, b in pairwise(ends) if b > a]
    return torch.cat([_by_rows(q[s], k[s], v[s], 1) for s in spans])


def _by_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: int) -> torch.Tensor:
    tokens, heads, width = q.shape
    q, k, v = (t.view(rows, -1, t.shape[1], width).transpose(1, 2) for t in (q, k, v))
    made = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != heads)
    return made.transpose(1, 2).reshape(tokens, heads * width)


def _by_bounds(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: torch.Tensor, longest: int
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    tokens, heads, width = q.shape
    options, takes_groups = _varlen_options()
    if k.shape[1] != heads:
        if takes_groups:
            options = {**options, "enable_gqa": True}
        else:
            k, v = (t.repeat_interleave(heads // k.shape[1], dim=1) for t in (k, v))
    made: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest, **options)
    return made.reshape(tokens, heads * width)  # type: ignore[no-any-return]


@cache
def _varlen_options() -> tuple[dict[str, Any], bool]:
    """How this torch is told to be causal, and whether it takes grouped heads by itself."""
    from torch.nn.attention.varlen import varlen_attn

    takes = inspect.signature(varlen_attn).parameters
    causal = {"is_causal": True} if "is_causal" in takes else {"window_size": (-1, 0)}
    return causal, "enable_gqa" in takes
