"""TensorBoard files: written to scratch, carried into the store now and then."""

from pathlib import Path
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.objects import Store, relative_paths
from kwanzaa_trainer.journal import Journal


class Charts:
    """The attempt's TensorBoard writer; one that is switched off does nothing."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where event files go; None switches it off."""
        self._folder = folder
        self._writer: Any = None

    def add(self, kind: str, step: int, **values: float | None) -> None:
        """One point of each curve `kind/name`."""
        if self._folder is None:
            return
        if self._writer is None:
            # Imported late: it takes a while, and a run without charts need not have it.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def upload(self, store: Store, prefix: str, journal: Journal) -> None:
        """Carries the files into the store; a store that fails is said and tried next time."""
        if self._writer is None or self._folder is None:
            return
        self._writer.flush()
        try:
            for path, name in relative_paths(self._folder):
                store.upload(path, f"{prefix}/{name}")
        except StoreError as error:
            journal.say("charts_not_stored", f"charts not stored: {error}", level="warning")

    def close(self) -> None:
        """Ends the writer's thread."""
        if self._writer is not None:
            self._writer.close()


def make_charts(config: TrainingConfig, work: Path) -> Charts:
    """Charts where the config wants them."""
    return Charts(work / "tensorboard" if config.writes_tensorboard else None)
