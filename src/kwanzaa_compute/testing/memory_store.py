"""A `Store` in memory: the whole of storage for tests that pass hours in milliseconds."""

import hashlib
from pathlib import Path

from kwanzaa_compute.errors import StoreExistsError, StoreMissingError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store.objects import StoredObject


class MemoryStore:
    """Holds its objects in a dictionary; like the others in every promise."""

    def __init__(self, url: str = "memory://run") -> None:
        """An empty store."""
        self._url = url
        self.objects: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        """Where this store pretends to be."""
        return self._url

    def put(self, path: str, data: bytes) -> None:
        """Writes an object, replacing what was there."""
        self.objects[path] = bytes(data)

    def create(self, path: str, data: bytes) -> None:
        """Writes an object that must not exist yet; raises `StoreExistsError` where it does."""
        if path in self.objects:
            raise StoreExistsError(f"there already is a {path} in {self._url}")
        self.objects[path] = bytes(data)

    def get(self, path: str) -> bytes:
        """Reads an object; raises `StoreMissingError` where there is none."""
        try:
            return self.objects[path]
        except KeyError:
            raise StoreMissingError(f"there is no {path} in {self._url}") from None

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""
        return path in self.objects

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Every object below `prefix` (a folder), sorted by path."""
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        return [
            StoredObject(path, len(self.objects[path]))
            for path in sorted(self.objects)
            if path.startswith(below)
        ]

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The paths of the folders right below `prefix`, sorted."""
        below = f"{prefix.rstrip('/')}/"
        names = (path.removeprefix(below) for path in self.objects if path.startswith(below))
        return tuple(sorted({below + name.split("/")[0] for name in names if "/" in name}))

    def delete(self, path: str) -> None:
        """Removes an object; already absent is fine."""
        self.objects.pop(path, None)

    def upload(self, source: Path, path: str) -> str:
        """Copies a local file into the store; returns its sha256 (hex)."""
        data = source.read_bytes()
        self.objects[path] = data
        return hashlib.sha256(data).hexdigest()

    def download(self, path: str, target: Path) -> str:
        """Copies an object to a local file, whole or not at all; returns its sha256 (hex)."""
        data = self.get(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def signed_url(self, path: str, hours: float) -> Secret:
        """Nobody can read it there: it is the name alone."""
        del hours
        return Secret(f"{self._url}/{path}")


class MemoryStores:
    """The stores of a test by their URLs; pass `open` wherever a store is opened."""

    def __init__(self) -> None:
        """No store yet."""
        self.by_url: dict[str, MemoryStore] = {}

    def open(self, url: str) -> MemoryStore:
        """The store at this URL, the same one every time."""
        return self.by_url.setdefault(url, MemoryStore(url))
