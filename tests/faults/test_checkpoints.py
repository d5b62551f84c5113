"""Damage to checkpoints, by the thousand: never taken for whole, always said, never step 0.

No model and no torch: what counts as whole is decided by bytes alone.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.errors import CheckpointError, StoreError
from kwanzaa_compute.store.checkpoints import CheckpointName
from kwanzaa_compute.store.objects import StoredObject
from kwanzaa_compute.testing import MemoryStore
from kwanzaa_trainer.manifest import Shelf, newest_verified, put_checkpoint

FLIPS = 10_000
OLD, NEW = CheckpointName(10, 1), CheckpointName(20, 1)


def write_files(folder: Path, words: str, size: int = 600) -> list[Path]:
    """A checkpoint's two files with contents that depend on `words`."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(words)
    tensors, state = folder / "state.safetensors", folder / "state.json"
    tensors.write_bytes(noise.randbytes(size))
    state.write_text(f'{{"progress": "{words}"}}')
    return [tensors, state]


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """Two whole checkpoints."""
    store = MemoryStore()
    for name in (OLD, NEW):
        put_checkpoint(store, name, write_files(tmp_path / "local", str(name)))
    return store


@pytest.fixture
def resumed(store: MemoryStore, tmp_path: Path) -> Callable[[], tuple[CheckpointName | None, str]]:
    """`resumed()` is the checkpoint that a run would go on from, and what it said."""

    def resume() -> tuple[CheckpointName | None, str]:
        said: list[str] = []
        return newest_verified(store, tmp_path / "fetched", said.append), "\n".join(said)

    return resume


Resumed = Callable[[], tuple[CheckpointName | None, str]]


def parts(store: MemoryStore, name: CheckpointName) -> list[str]:
    return [item.path for item in store.list(name.prefix)]


def test_truncation_at_every_byte_falls_back(store: MemoryStore, resumed: Resumed) -> None:
    assert resumed() == (NEW, "")
    for path in parts(store, NEW):
        whole = store.objects[path]
        for length in range(len(whole)):
            store.objects[path] = whole[:length]
            name, said = resumed()
            assert name == OLD, f"{path} cut to {length} bytes was taken for whole"
            assert "checkpoint ckpt-20-1 is damaged and skipped" in said
        store.objects[path] = whole


def test_ten_thousand_flipped_bits_are_all_noticed(store: MemoryStore, resumed: Resumed) -> None:
    chance = random.Random(1966)
    paths = parts(store, NEW)
    for _ in range(FLIPS):
        path = chance.choice(paths)
        whole = store.objects[path]
        position, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        damaged = bytearray(whole)
        damaged[position] ^= bit
        store.objects[path] = bytes(damaged)
        name, said = resumed()
        assert name == OLD, f"{path}: byte {position} ^ {bit} was taken for whole"
        assert "damaged" in said
        store.objects[path] = whole


def test_a_missing_file_falls_back(store: MemoryStore, resumed: Resumed) -> None:
    for path in parts(store, NEW):
        whole = store.objects.pop(path)
        name, said = resumed()
        assert name == OLD
        assert "checkpoint ckpt-20-1" in said
        assert "skipped" in said
        store.objects[path] = whole


def test_files_of_another_checkpoint_are_not_taken(store: MemoryStore, resumed: Resumed) -> None:
    for path in parts(store, OLD):
        store.objects[path.replace(str(OLD), str(NEW))] = store.objects[path]
    name, said = resumed()
    assert name == OLD
    assert "it is that of ckpt-10-1" in said


def test_all_of_them_damaged_is_an_error_and_never_step_0(
    store: MemoryStore, resumed: Resumed
) -> None:
    for name in (OLD, NEW):
        path = f"{name.prefix}/state.safetensors"
        store.objects[path] = store.objects[path][:-1]
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints") as caught:
        resumed()
    assert caught.value.mend


class Vanishing(MemoryStore):
    """A store whose machine vanishes after so many changes; with `half`, in the middle of one."""

    def __init__(self, left: int, *, half: bool) -> None:
        super().__init__()
        self.left, self.half = left, half

    def put(self, path: str, data: bytes) -> None:
        self._spend(path, data)
        super().put(path, data)

    def upload(self, source: Path, path: str) -> str:
        self._spend(path, source.read_bytes())
        return super().upload(source, path)

    def delete(self, path: str) -> None:
        self._spend("", b"")
        super().delete(path)

    def _spend(self, path: str, data: bytes) -> None:
        if self.left == 0:
            if self.half and path:  # storage that does not keep its promise of all or nothing
                self.objects[path] = data[: len(data) // 2]
            raise StoreError("the machine is gone")
        self.left -= 1


def save_often(shelf: Shelf, local: Path) -> None:
    """Six saves with rotation, as a run makes them; the second is the best."""
    for step in range(1, 7):
        name = CheckpointName(step, 1)
        assert shelf.add(name, write_files(local, str(name))) == ""
        shelf.rotate(CheckpointName(2, 1))


def newest_step(store: Vanishing, target: Path) -> int:
    """The step to go on from; 0 where nothing was ever saved."""
    try:
        name = newest_verified(store, target, lambda _text: None)
    except CheckpointError:
        # A torn manifest of the very first save: damage and never-finished look the same, so a
        # person is asked. Storage that keeps its promise never comes here.
        assert store.half
        return 0
    return name.step if name else 0


@pytest.mark.parametrize("half", [False, True], ids=["between", "within"])
def test_every_crash_of_every_save_can_be_recovered_from(tmp_path: Path, *, half: bool) -> None:
    newest = 0
    for operations in range(10_000):
        store = Vanishing(operations, half=half)
        try:
            save_often(Shelf(store, tmp_path / "scratch", keep=2), tmp_path / "local")
        except StoreError:
            step = newest_step(store, tmp_path / "fetched")
            assert step >= newest, f"after {operations} operations progress was lost"
            newest = step
        else:
            break
    # Six saves of three puts and a delete each, and what rotation removes.
    assert operations > 6 * 4
    kept = {item.path.split("/")[1] for item in store.list("checkpoints")}
    assert kept == {"ckpt-2-1", "ckpt-5-1", "ckpt-6-1"}


def test_a_listing_that_names_strangers_is_read_for_what_is_ours(
    store: MemoryStore, resumed: Resumed
) -> None:
    for path in ("checkpoints/ckpt-99", "checkpoints/ckpt-x-1/manifest.json", "checkpoints/../x"):
        store.objects[path] = b"{}"
    assert resumed() == (NEW, "")
    assert StoredObject("checkpoints/ckpt-99", 2) in store.list("checkpoints")
