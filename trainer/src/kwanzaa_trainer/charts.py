"""Curves for people: TensorBoard and W&B files, written to scratch and carried into the store."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.objects import Store, relative_paths
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.weights_and_biases import WeightsAndBiases


class Curves(Protocol):
    """One kind of charts. Nothing in it may stop the training."""

    name: str

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve `kind/name`."""

    def files(self) -> Iterator[tuple[Path, str]]:
        """What is to be carried into the store by now, each with its name there."""

    def close(self) -> None:
        """Writes what is left, and ends what works beside the training."""


class TensorBoard:
    """TensorBoard's event files."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        """`folder` is where event files go."""
        self._folder = folder
        self._writer: Any = None

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        if self._writer is None:
            # Imported late: it takes a while, and a run without charts need not have it.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def files(self) -> Iterator[tuple[Path, str]]:
        """The event files, flushed."""
        if self._writer is not None:
            self._writer.flush()
            yield from relative_paths(self._folder)

    def close(self) -> None:
        """Ends the writer's thread."""
        if self._writer is not None:
            self._writer.close()


class Charts:
    """The attempt's charts, of every kind that the config wants; of none, it does nothing."""

    def __init__(self, kinds: Sequence[Curves] = ()) -> None:
        self._kinds = kinds

    def add(self, kind: str, step: int, **values: float | None) -> None:
        """One point of each curve `kind/name`."""
        known = {name: value for name, value in values.items() if value is not None}
        for curves in self._kinds:
            curves.add(kind, step, known)

    def upload(self, store: Store, prefix: str, journal: Journal) -> None:
        """Carries the files into the store; a store that fails is said and tried next time."""
        try:
            for curves in self._kinds:
                for path, name in curves.files():
                    store.upload(path, f"{prefix}/{curves.name}/{name}")
        except StoreError as error:
            journal.say("charts_not_stored", f"charts not stored: {error}", level="warning")

    def close(self) -> None:
        """Ends them all."""
        for curves in self._kinds:
            curves.close()


def make_charts(config: TrainingConfig, work: Path, run_id: str, journal: Journal) -> Charts:
    """The charts that the config wants."""
    kinds: list[Curves] = []
    if config.writes_tensorboard:
        kinds.append(TensorBoard(work / "tensorboard"))
    if config.writes_wandb:
        kinds.append(WeightsAndBiases(config, work / "curves", run_id, journal, os.environ))
    return Charts(kinds)
