"""The keys of SSH: made once, for their user only, and one for each machine."""

from pathlib import Path

from kwanzaa_compute.drivers.ssh_keys import login_key


def test_a_host_key_is_the_machines_own_and_always_the_same(tmp_path: Path) -> None:
    key = login_key(tmp_path, "moonbase")
    again = login_key(tmp_path, "moonbase")
    assert key.public == again.public
    assert key.host_key("a").public == again.host_key("a").public
    assert len({key.public, key.host_key("a").public, key.host_key("b").public}) == 3
    assert (
        login_key(tmp_path / "other", "moonbase").host_key("a").public != key.host_key("a").public
    )


def test_the_login_key_is_for_its_user_only_and_hides_itself(tmp_path: Path) -> None:
    key = login_key(tmp_path, "moonbase")
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert key.path.parent.stat().st_mode & 0o777 == 0o700
    assert list(key.path.parent.iterdir()) == [key.path]
    private = key.host_key("a").private
    assert "PRIVATE" in private
    assert "PRIVATE" not in repr(key.host_key("a"))


def test_each_provider_lets_in_another_key(tmp_path: Path) -> None:
    assert login_key(tmp_path, "moonbase").public != login_key(tmp_path, "harbour").public
