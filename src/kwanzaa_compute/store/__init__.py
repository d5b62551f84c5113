"""The run's folder in object storage: the only thing that outlives a machine."""

from kwanzaa_compute.store.folder import (
    Done,
    Failure,
    Heartbeat,
    RunFolder,
    StopRequest,
    TrainingPhase,
)
from kwanzaa_compute.store.objects import ObjectStore, Store, StoredObject, open_store

__all__ = [
    "Done",
    "Failure",
    "Heartbeat",
    "ObjectStore",
    "RunFolder",
    "StopRequest",
    "Store",
    "StoredObject",
    "TrainingPhase",
    "open_store",
]
