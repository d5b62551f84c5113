"""Checkpoints as objects, without torch: what counts as whole, and what is ever deleted."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kwanzaa_compute.errors import CheckpointError, StoreError
from kwanzaa_compute.store.checkpoints import CheckpointName, fetch_checkpoint, list_checkpoints
from kwanzaa_compute.store.folder import Heartbeat, ResumePoint, RunFolder
from kwanzaa_compute.store.objects import ObjectStore, Store, open_store
from kwanzaa_trainer.manifest import Shelf, newest_verified, put_checkpoint, superseded


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path / 'store'}")


def _files(folder: Path, content: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "state.safetensors", folder / "state.json"]
    for file in files:
        file.write_text(f"{file.name} {content}")
    return files


def _put(store: Store, folder: Path, step: int, attempt: int = 1) -> CheckpointName:
    name = CheckpointName(step, attempt)
    put_checkpoint(store, name, _files(folder / "local", str(name)))
    return name


def test_the_newest_is_by_step_then_by_attempt(store: ObjectStore, tmp_path: Path) -> None:
    for step, attempt in [(9, 1), (10, 1), (10, 2), (2, 3)]:
        _put(store, tmp_path, step, attempt)
    assert [str(n) for n in list_checkpoints(store)] == [
        "ckpt-10-2",
        "ckpt-10-1",
        "ckpt-9-1",
        "ckpt-2-3",
    ]
    said: list[str] = []
    assert newest_verified(store, tmp_path / "in", said.append) == CheckpointName(10, 2)
    assert (tmp_path / "in" / "state.json").read_text() == "state.json ckpt-10-2"
    assert not said


def _truncate(root: Path) -> None:
    file = root / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _flip(root: Path) -> None:
    file = root / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


DAMAGES = {
    "truncated": _truncate,
    "a flipped bit": _flip,
    "a missing file": lambda root: (root / "state.json").unlink(),
    "an empty manifest": lambda root: (root / "manifest.json").write_text(""),
    "half a manifest": lambda root: (root / "manifest.json").write_text('{"files": {}}'),
    "a lying manifest": lambda root: (root / "manifest.json").write_text('{"files": {"../x": 1}}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_said_and_the_one_before_is_taken(
    store: ObjectStore, tmp_path: Path, damage: str
) -> None:
    good, bad = _put(store, tmp_path, 5), _put(store, tmp_path, 6)
    DAMAGES[damage](tmp_path / "store" / bad.prefix)
    said: list[str] = []
    assert newest_verified(store, tmp_path / "in", said.append) == good
    assert len(said) == 1
    assert "ckpt-6-1 is damaged" in said[0]


def test_one_without_a_manifest_was_never_finished(store: ObjectStore, tmp_path: Path) -> None:
    name = _put(store, tmp_path, 5)
    store.delete(f"{name.prefix}/manifest.json")
    said: list[str] = []
    assert newest_verified(store, tmp_path / "in", said.append) is None
    assert said == ["checkpoint ckpt-5-1 has no manifest and is skipped: its save was cut short"]


def test_one_that_was_whole_once_and_lost_its_manifest_is_never_step_0(
    store: ObjectStore, tmp_path: Path
) -> None:
    name = _put(store, tmp_path, 5)
    beat = Heartbeat(sequence=9, phase="train", attempt=1, step=6, checkpoint=str(name))
    RunFolder(store).put_heartbeat(beat)
    store.delete(f"{name.prefix}/manifest.json")
    with pytest.raises(CheckpointError, match="ckpt-5-1 was saved"):
        newest_verified(store, tmp_path / "in", lambda _: None)


def test_no_checkpoint_is_no_error_but_only_damaged_ones_are(
    store: ObjectStore, tmp_path: Path
) -> None:
    assert newest_verified(store, tmp_path / "in", pytest.fail) is None
    for step in (1, 2):
        _truncate(tmp_path / "store" / _put(store, tmp_path, step).prefix)
    with pytest.raises(CheckpointError, match="none of the 2"):
        newest_verified(store, tmp_path / "in", lambda _: None)


class Failing(ObjectStore):
    """A real store that fails at its n-th change."""

    def __init__(self, url: str, at: int) -> None:
        super().__init__(url, open_store(url)._backend)
        self._left = at

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise StoreError("the machine vanished")

    def put(self, path: str, data: bytes) -> None:
        self._count()
        super().put(path, data)

    def upload(self, source: Path, path: str) -> str:
        self._count()
        return super().upload(source, path)

    def delete(self, path: str) -> None:
        self._count()
        super().delete(path)


@pytest.mark.parametrize("at", range(20))
def test_wherever_the_machine_vanishes_a_verified_checkpoint_remains(
    store: ObjectStore, tmp_path: Path, at: int
) -> None:
    first = Shelf(store, tmp_path / "read", keep=1)
    first.add(CheckpointName(1, 1), _files(tmp_path / "local", "one"))
    shelf = Shelf(Failing(store.url, at), tmp_path / "read", keep=1)
    try:
        for step in (2, 3):
            shelf.add(CheckpointName(step, 1), _files(tmp_path / "local", str(step)))
            shelf.rotate(None)
    except StoreError:
        pass
    said: list[str] = []
    assert newest_verified(store, tmp_path / "in", said.append) is not None
    assert all("its save was cut short" in text for text in said)


def test_rotation_keeps_the_newest_and_the_best_and_counts_only_whole_ones(
    store: ObjectStore, tmp_path: Path
) -> None:
    shelf = Shelf(store, tmp_path / "read", keep=2)
    names = [_put(store, tmp_path, step) for step in range(1, 7)]
    _flip(tmp_path / "store" / names[4].prefix)
    gone = shelf.rotate(best=names[1])
    assert list_checkpoints(store) == [names[5], names[3], names[1]]
    assert set(gone) == {names[0], names[2], names[4]}


@pytest.mark.parametrize("keep", [1, 2])
def test_rotation_never_counts_or_deletes_what_was_set_aside(
    store: ObjectStore, tmp_path: Path, keep: int
) -> None:
    for step in (10, 20, 30, 40):
        _put(store, tmp_path, step)
    shelf = Shelf(store, tmp_path / "read-back", keep, ResumePoint("ckpt-10-1", after=1))
    for step in (12, 14):
        name = CheckpointName(step, 2)
        assert not shelf.add(name, _files(tmp_path / "local", str(name)))
        shelf.rotate(best=None)
    left = [str(name) for name in list_checkpoints(store)]
    aside = ["ckpt-40-1", "ckpt-30-1", "ckpt-20-1"]
    assert left == [*aside, "ckpt-14-2", "ckpt-12-2"][: len(aside) + keep]


def test_a_checkpoint_that_reads_back_otherwise_is_not_one(
    store: ObjectStore, tmp_path: Path
) -> None:
    class Mangling(ObjectStore):
        def upload(self, source: Path, path: str) -> str:
            digest = super().upload(source, path)
            self.put(path, b"mangled")
            return digest

    mangling = Mangling(store.url, open_store(store.url)._backend)
    shelf = Shelf(mangling, tmp_path / "read", keep=1)
    old = _put(store, tmp_path, 1)
    wrong = shelf.add(CheckpointName(2, 1), _files(tmp_path / "local", "two"))
    assert "ckpt-2-1 reads back otherwise" in wrong
    shelf.rotate(None)
    assert old in list_checkpoints(store)
    assert not fetch_checkpoint(store, old, tmp_path / "in")


@pytest.mark.parametrize("keep", [None, 1, 2, 5])
def test_the_newest_verified_one_is_never_superseded(keep: int | None) -> None:
    names = [CheckpointName(step, 1) for step in range(5)]
    for flags in itertools.product([True, False], repeat=5):
        verified = {name for name, whole in zip(names, flags, strict=True) if whole}
        for best in (None, *names):
            gone = superseded(names, verified, keep, best)
            assert best not in gone
            if verified:
                assert max(verified) not in gone
                assert all(name < max(verified) for name in gone)
            if keep is None or not verified:
                assert not gone


def test_a_rewritten_checkpoint_has_no_manifest_while_its_files_change(
    store: ObjectStore, tmp_path: Path
) -> None:
    name = _put(store, tmp_path, 5)
    failing = Failing(store.url, at=2)  # the old manifest goes, one file comes, then nothing
    with pytest.raises(StoreError):
        put_checkpoint(failing, name, _files(tmp_path / "local", "otherwise"))
    assert newest_verified(store, tmp_path / "in", lambda _: None) is None


def test_the_manifest_names_size_and_sha256(store: ObjectStore, tmp_path: Path) -> None:
    name = _put(store, tmp_path, 5, attempt=3)
    manifest = json.loads(store.get(f"{name.prefix}/manifest.json"))
    assert (manifest["step"], manifest["attempt"]) == (5, 3)
    assert manifest["files"].keys() == {"state.safetensors", "state.json"}
    assert all(len(v["sha256"]) == 64 and v["size"] > 0 for v in manifest["files"].values())


def test_verification_needs_no_torch() -> None:
    code = (
        "import sys, kwanzaa_trainer.manifest, kwanzaa_trainer.attempt, kwanzaa_trainer.__main__;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
