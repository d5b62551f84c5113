"""Where an attempt works."""

from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store.folder import RunFolder, TrainingPhase
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop


@dataclass(frozen=True, slots=True)
class Site:
    """Where an attempt works: its store, its scratch folder, its voice."""

    folder: RunFolder
    settings: Settings
    work: Path
    journal: Journal
    clock: Clock
    stop: Stop

    def moved(self, phase: TrainingPhase) -> None:
        """Says that something moved."""
        self.journal.progress(phase)
