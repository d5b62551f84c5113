"""A micro-batch captured once as a CUDA graph and replayed: the GPU no longer waits for Python.

One micro-batch launches thousands of kernels, and at one row of 2,048 tokens a fast GPU is done
with them before Python has named the next. A graph needs the same shapes each time, so rows are
padded to the full length. Of samples packed into them there may be few or many: there is a graph
for each order of magnitude of their number, and all of them compute in the same memory.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from kwanzaa_trainer.fast.passes import Counts, Feed, Model, learn

WARM_UPS = 2
FEWEST_BOUNDS = 16
"""Room for the bounds of packed samples in the smallest graph; the next one has four times that."""


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    feed: Feed
    loss: torch.Tensor


_Key = tuple[int, tuple[Counts, ...], int]
"""(recompute_every, rows and tokens of each adapter, room for bounds)."""


class Replayer:
    """Captures when a shape is seen first, replays from then on.

    Graphs of other rows than the ones at hand are given up: their memory is worth more.
    """

    def __init__(self, model: Model) -> None:
        """Nothing is captured yet."""
        self._model = model
        self._captured: dict[_Key, _Captured] = {}
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def learn(self, feed: Feed, recompute_every: int) -> torch.Tensor:
        """What `passes.learn` does."""
        key = _key(feed, recompute_every)
        if any(other[:2] != key[:2] for other in self._captured):
            self.drop()
        if key not in self._captured:
            self._captured[key] = self._capture(feed, recompute_every, key[2])
        captured = self._captured[key]
        _fill(captured.feed, feed)
        captured.graph.replay()
        return captured.loss.clone()

    def drop(self) -> None:
        """Gives the graphs' memory back."""
        self._captured.clear()
        self._pool = None
        torch.cuda.empty_cache()

    def _capture(self, feed: Feed, recompute_every: int, room: int) -> _Captured:
        mine = _own(feed, room)
        # One stream for all of it: each one that multiplies keeps a workspace for good.
        stream = self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        if not self._captured:
            self._warm_up(mine, recompute_every, stream)
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=stream):
            loss = learn(self._model, mine, recompute_every)
        return _Captured(graph, mine, loss)

    def _warm_up(self, feed: Feed, recompute_every: int, stream: torch.cuda.Stream) -> None:
        """Loads kernels and fills buffers, which a capture must not do."""
        # Weight zero: warming up must leave no gradient behind.
        feed.weights.zero_()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                learn(self._model, feed, recompute_every)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def _key(feed: Feed, recompute_every: int) -> _Key:
    layout = feed.layout
    room = 0 if layout.bounds is None else room_for(layout.bounds.numel())
    return recompute_every, feed.shares, room


def room_for(bounds: int) -> int:
    """The room that a graph has which takes so many bounds."""
    room = FEWEST_BOUNDS
    while room < bounds:
        room *= 4
    return room


def _own(feed: Feed, room: int) -> Feed:
    """Tensors of the graph's own, to be filled for each replay."""
    bounds = feed.layout.bounds
    if bounds is not None:
        bounds = torch.cat((bounds, bounds[-1:].expand(room - bounds.numel())))
    return Feed(
        feed.ids.clone(),
        feed.positions.clone(),
        feed.wanted.clone(),
        feed.weights.clone(),
        feed.seeds.clone(),
        replace(feed.layout, bounds=bounds),
        feed.shares,
    )


def _fill(mine: Feed, feed: Feed) -> None:
    for name in ("ids", "positions", "wanted", "weights", "seeds"):
        getattr(mine, name).copy_(getattr(feed, name))
    ours, theirs = mine.layout.bounds, feed.layout.bounds
    if ours is not None and theirs is not None:
        ours.fill_(feed.ids.numel())
        ours[: theirs.numel()].copy_(theirs)
