"""A webhook that really listens, on loopback, and options for runs on the fake cloud."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import kwanzaa_compute as kc

TOKEN = "T000/B000/s3cr3tS3cr3tS3cr3t"


@dataclass
class Hook:
    """What the webhook got, and what it answers."""

    url: str
    got: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    hangs: threading.Event | None = None
    """It answers only once this is set."""

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.got]


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A server on loopback that takes what Slack takes; its path holds a token, as Slack's does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == f"/services/{TOKEN}"
            assert self.headers["Content-Type"] == "application/json"
            found.got.append(body)
            if found.hangs is not None:
                found.hangs.wait(60)
            self.send_response(found.status)
            if 300 <= found.status < 400:
                self.send_header("Location", found.url)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Hook(f"http://127.0.0.1:{server.server_port}/services/{TOKEN}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        if found.hangs is not None:
            found.hangs.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def options() -> Callable[..., kc.Options]:
    """Options of a run of the quickstart on a known base; `overrides` are keys of its config."""

    def make(**overrides: object) -> kc.Options:
        keys = {key.replace("__", "."): value for key, value in overrides.items()}
        base = {"model.base_model_id": "allenai/OLMo-7B-Instruct-hf"}
        return kc.Options(max_usd=Decimal(5), overrides=base | keys)

    return make
