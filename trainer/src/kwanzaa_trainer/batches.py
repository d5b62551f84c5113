"""Rows of samples as tensors, and the micro-batches of every optimizer step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwanzaa_trainer.data import IGNORED, Sample
from kwanzaa_trainer.packing import Row

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one length. `position_ids` start again at 0 with every sample of a row.

    There is no attention mask: transformers sees from the positions where a sample begins and
    keeps the samples of a row apart. Padding stands at the end of a row, where a causal model
    cannot see it, and is a sample of its own.
    """

    input_ids: "torch.Tensor"
    position_ids: "torch.Tensor"
    labels: "torch.Tensor"
    tokens: int
    """Tokens without padding."""
    answers: int
    """Tokens that are learnt."""


def collate(
    samples: Sequence[Sample], rows: Sequence[Row], pad_id: int, *, length: int = 0
) -> Batch:
    """The rows as one batch, padded to the longest of them, and to `length` at least."""
    import numpy as np
    import torch

    lengths = [sum(len(samples[i].ids) for i in row) for row in rows]
    shape = (len(rows), max(*lengths, length))
    ids = torch.full(shape, pad_id, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    positions = torch.zeros(shape, dtype=torch.long)
    for number, row in enumerate(rows):
        at = 0
        for sample in (samples[i] for i in row):
            end = at + len(sample.ids)
            # By way of numpy: torch would ask an array for its numbers one by one.
            ids[number, at:end] = torch.from_numpy(np.asarray(sample.ids, dtype=np.int64))
            labels[number, at:end] = torch.from_numpy(np.asarray(sample.labels, dtype=np.int64))
            positions[number, at:end] = torch.arange(end - at)
            at = end
        positions[number, at:] = _padding_positions(at, shape[1], is_packed=len(row) > 1)
    return Batch(ids, positions, labels, sum(lengths), int((labels != IGNORED).sum()))


def micro_batches(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    """The rows of one optimizer step in pieces of at most `size`."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def nothing_to_learn(batch: Batch) -> Batch:
    """The batch, teaching nothing: for a pass that others must not make alone."""
    import torch

    return replace(batch, labels=torch.full_like(batch.labels, IGNORED), tokens=0, answers=0)


def _padding_positions(at: int, length: int, *, is_packed: bool) -> "torch.Tensor":
    """Padding counts on after a lone sample, so that no block mask is built for it."""
    import torch

    return torch.arange(length - at) + (0 if is_packed else at)
