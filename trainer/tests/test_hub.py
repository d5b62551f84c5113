"""A base from the Hub, as a server on loopback speaks it."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kwanzaa_compute.errors import ConfigError
from kwanzaa_trainer.hub import fetch_from_hub
from kwanzaa_trainer.model import Base, load_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "example/tiny"


FILES: dict[str, bytes] = {}
"""What the repository holds."""


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        name = parts[-1]
        if "/".join(parts[:2]) == MODEL and parts[2:4] == ["resolve", COMMIT]:
            self._send(200, FILES[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        elif parts[:4] == ["api", "models", *MODEL.split("/")] and "tree" in parts:
            tree = [{"type": "file", "path": n, "size": len(c), "oid": n} for n, c in FILES.items()]
            self._send(200, json.dumps(tree).encode())
        elif parts[:4] == ["api", "models", *MODEL.split("/")]:
            siblings = [{"rfilename": n} for n in FILES]
            info = {"id": MODEL, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(info).encode())
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests must not ask the Hub; these ask one on loopback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(base: Path) -> Iterator[str]:
    """A Hub with one repository, the tiny base, in which somebody also left a pickle."""
    FILES.clear()
    FILES.update({path.name: path.read_bytes() for path in base.iterdir()})
    FILES.update({"pytorch_model.bin": b"pickle", "modeling_evil.py": b"raise SystemExit"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_base_comes_from_the_hub_without_code_and_without_pickles(
    hub: str, tmp_path: Path
) -> None:
    moves: list[int] = []
    folder = fetch_from_hub(
        MODEL, None, moved=lambda: moves.append(1), endpoint=hub, cache=tmp_path
    )
    assert folder.name == COMMIT
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "modeling_evil.py"}
    assert len(moves) >= len(names), "every file must be heard of"
    assert load_tokenizer(Base(str(folder)))("a")["input_ids"]


def test_a_name_that_the_hub_does_not_know_is_a_config_error(hub: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no example/nobody"):
        fetch_from_hub("example/nobody", None, moved=int, endpoint=hub, cache=tmp_path)


def test_a_name_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a folder"):
        fetch_from_hub("../my base", None, moved=int, cache=tmp_path)


def test_a_hub_that_cannot_be_reached_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the library's own, whichever
        fetch_from_hub(MODEL, None, moved=int, endpoint="http://127.0.0.1:9", cache=tmp_path)
    assert not isinstance(caught.value, ConfigError)
