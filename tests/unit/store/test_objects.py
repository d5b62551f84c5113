"""The store on real files: atomic, private, and deaf to paths that climb out."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kwanzaa_compute.errors import StoreError, StoreExistsError, StoreMissingError, UsageError
from kwanzaa_compute.store import ObjectStore, open_store
from kwanzaa_compute.store.objects import file_sha256, inside, relative_paths
from kwanzaa_compute.store.on_disk import NO_LINKS


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "a" / "store").as_uri())


def test_what_is_put_can_be_read_back(store: ObjectStore) -> None:
    store.put("runs/r1/x.json", b"one")
    store.put("runs/r1/x.json", b"two")
    assert store.get("runs/r1/x.json") == b"two"
    assert store.exists("runs/r1/x.json")


def test_create_refuses_what_exists(store: ObjectStore) -> None:
    store.create("done.json", b"first")
    with pytest.raises(StoreExistsError, match=r"already is a done\.json"):
        store.create("done.json", b"second")
    assert store.get("done.json") == b"first"


def test_a_missing_object_is_said_to_be_missing(store: ObjectStore) -> None:
    with pytest.raises(StoreMissingError, match=r"no nothing\.json"):
        store.get("nothing.json")
    assert not store.exists("nothing.json")


@pytest.mark.parametrize("name", ["a b%20c.json", "x#y", "%2F", "ü/é.txt", "q?z", "~[1]"])
def test_odd_names_are_the_same_for_every_call(store: ObjectStore, name: str) -> None:
    store.put(name, b"1")
    assert store.get(name) == b"1"
    assert [o.path for o in store.list()] == [name]
    store.delete(name)
    with pytest.raises(StoreMissingError):
        store.get(name)


def test_a_folder_is_no_object(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    with pytest.raises(StoreMissingError):
        store.get("a")
    with pytest.raises(StoreError):
        store.get("a/b/c")


def test_deleting_twice_is_fine(store: ObjectStore) -> None:
    store.put("x", b"1")
    store.delete("x")
    store.delete("x")
    assert store.list() == []


def test_a_list_is_sorted_and_below_its_prefix(store: ObjectStore) -> None:
    for name in ("b/2", "b/1", "a", "bb/3"):
        store.put(name, b"12")
    assert [(o.path, o.size) for o in store.list("b")] == [("b/1", 2), ("b/2", 2)]
    assert [o.path for o in store.list()] == ["a", "b/1", "b/2", "bb/3"]


def test_files_travel_both_ways_with_their_hash(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 100_000)
    digest = store.upload(source, "input/source.bin")
    assert digest == file_sha256(source)
    assert store.download("input/source.bin", tmp_path / "deep" / "copy.bin") == digest
    assert (tmp_path / "deep" / "copy.bin").read_bytes() == source.read_bytes()


def test_a_failed_download_leaves_nothing_and_harms_nothing(
    store: ObjectStore, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    with pytest.raises(StoreMissingError):
        store.download("nothing", target)
    assert target.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_paths_that_climb_out_are_refused(store: ObjectStore, path: str) -> None:
    with pytest.raises(StoreError):
        store.put(path, b"x")
    with pytest.raises(StoreError):
        store.get(path)


def test_a_name_from_a_machine_stays_below_the_folder(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b") == tmp_path / "a" / "b"
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(StoreError, match="would leave"):
        inside(tmp_path, "link/etc")


def test_a_file_store_is_private(store: ObjectStore, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "a" / "store"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("url", ["ftp://host/x", "nonsense", "http://x/y?key=SECRET"])
def test_an_unknown_scheme_is_refused_without_echoing_a_query(url: str) -> None:
    with pytest.raises(UsageError, match="scheme") as caught:
        open_store(url)
    assert "SECRET" not in str(caught.value)


def test_a_url_with_a_credential_is_refused() -> None:
    with pytest.raises(UsageError, match="never carries a credential") as caught:
        open_store("az://container/x?sig=SECRET")
    assert "SECRET" not in str(caught.value)


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created"):
        open_store((tmp_path / "file" / "store").as_uri())


def test_links_do_not_travel(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    assert [name for _, name in relative_paths(tmp_path)] == ["real"]
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="is a link"):
        list(relative_paths(tmp_path))


def test_the_representation_shows_the_place_only(store: ObjectStore) -> None:
    assert repr(store) == f"ObjectStore({store.url!r})"


@pytest.mark.parametrize("number", sorted(NO_LINKS))
def test_on_a_disk_that_knows_no_links_create_still_writes_all_or_nothing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on Google Drive, where a notebook keeps its run."""

    def no_links(_source: object, _target: object) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr("os.link", no_links)
    store = open_store(tmp_path.as_uri())
    store.create("folder/done.json", b"first")
    with pytest.raises(StoreExistsError):
        store.create("folder/done.json", b"second")
    assert store.get("folder/done.json") == b"first"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["done.json"]


def test_of_many_who_create_at_once_one_succeeds(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())

    def create(number: int) -> bool:
        try:
            store.create("done.json", b"%d" % number)
        except StoreExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(32))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["done.json"]
