"""A micro-batch captured once as a CUDA graph and replayed: the GPU no longer waits for Python.

One micro-batch launches thousands of kernels, and at one row of 2,048 tokens a fast GPU is done
with them before Python has named the next. A graph needs the same shapes each time, so rows are
padded to the full length; samples packed into them may be as many as the capture left room for.
"""

from dataclasses import dataclass, replace

import torch

from kwanzaa_trainer.fast.passes import Feed, Model, learn

WARM_UPS = 2
SPARE_BOUNDS = 64
"""Bounds of packed samples are captured in multiples of this."""


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    feed: Feed
    loss: torch.Tensor
    recompute_every: int


class Replayer:
    """Captures when a shape is seen first, replays from then on; one graph at a time."""

    def __init__(self, model: Model) -> None:
        """Nothing is captured yet."""
        self._model = model
        self._captured: _Captured | None = None

    def learn(self, feed: Feed, recompute_every: int) -> torch.Tensor:
        """What `passes.learn` does."""
        captured = self._captured
        if captured is None or not _fits(captured, feed, recompute_every):
            self.drop()
            captured = self._captured = self._capture(feed, recompute_every)
        _fill(captured.feed, feed)
        captured.graph.replay()
        return captured.loss.clone()

    def drop(self) -> None:
        """Gives the graph's memory back."""
        self._captured = None
        torch.cuda.empty_cache()

    def _capture(self, feed: Feed, recompute_every: int) -> _Captured:
        mine = _own(feed)
        # Weight zero: warming up must leave no gradient behind.
        mine.weight.zero_()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                learn(self._model, mine, recompute_every)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = learn(self._model, mine, recompute_every)
        return _Captured(graph, mine, loss, recompute_every)


def _fits(captured: _Captured, feed: Feed, recompute_every: int) -> bool:
    mine, theirs = captured.feed.layout, feed.layout
    if captured.recompute_every != recompute_every:
        return False
    if (mine.rows, mine.length) != (theirs.rows, theirs.length):
        return False
    if mine.bounds is None or theirs.bounds is None:
        return mine.bounds is theirs.bounds
    return theirs.bounds.numel() <= mine.bounds.numel()


def _own(feed: Feed) -> Feed:
    """Tensors of the graph's own, to be filled for each replay."""
    bounds = feed.layout.bounds
    if bounds is not None:
        spare = -bounds.numel() % SPARE_BOUNDS
        bounds = torch.cat((bounds, bounds[-1:].expand(spare)))
    return Feed(
        feed.ids.clone(),
        feed.positions.clone(),
        feed.wanted.clone(),
        feed.weight.clone(),
        feed.seed.clone(),
        replace(feed.layout, bounds=bounds),
    )


def _fill(mine: Feed, feed: Feed) -> None:
    for name in ("ids", "positions", "wanted", "weight", "seed"):
        getattr(mine, name).copy_(getattr(feed, name))
    ours, theirs = mine.layout.bounds, feed.layout.bounds
    if ours is not None and theirs is not None:
        ours.fill_(feed.ids.numel())
        ours[: theirs.numel()].copy_(theirs)
