"""An adapter on its way to a hub: what a driver package's publisher is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Publication:
    """The folder of one adapter, all of it, for the repository `repo` (OWNER/NAME, or NAME alone).

    `private`: nobody else sees it. Publishing again updates the repository.
    """

    repo: str
    folder: Path
    private: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """Where it is now: its address, and the revision that this made or found."""

    url: str
    revision: str


Publisher = Callable[[Publication, Callable[[str], None]], Published]
"""Sends a publication, saying what it does; raises a `ProviderError`, never one with a secret."""
