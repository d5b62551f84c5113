"""`WireServer`: an HTTP server on 127.0.0.1 that a provider's simulator answers through."""

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from kwanzaa_compute.testing.weather import RateLimitedError, SimError, TimedOutError

MOST_BODY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in. Header names are in lower case, the path is decoded."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is empty. Raises `ValueError` where it is not JSON."""
        return json.loads(self.body) if self.body else None

    @property
    def bearer(self) -> str:
        """The bearer token; empty where there is none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: `body` is JSON (a dict or list), bytes, or chunks that are streamed as they come.

    `dropped`: the connection is closed without an answer.
    """

    status: int = 200
    body: "Mapping[str, Any] | list[Any] | bytes | Iterable[bytes]" = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False


Handler = Callable[[Request], Reply]
DROPPED = Reply(dropped=True)


class WireServer:
    """Answers requests with a function; `exchanges` are all that were made, for whoever checks.

    What the simulated cloud raises becomes an answer by `on_error`: by default 429 with
    Retry-After, no answer at all, or 500. A test may lay a fault in the way of the next request:

        server.interrupt("POST", "/v2/pods", Reply(502, b"<html>Bad Gateway</html>"))
    """

    def __init__(
        self,
        handle: Handler,
        *,
        on_error: Callable[[SimError], Reply] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listens on a free port of 127.0.0.1 from now on; `close` (or `with`) ends it."""
        self._handle = handle
        self._on_error = on_error or plain_error
        self._faults: list[tuple[str, re.Pattern[str], Handler]] = []
        self._lock = threading.Lock()
        self.exchanges: list[tuple[Request, Reply]] = []
        self.keeps_alive = True
        """Whether a connection serves several requests. Some clients lose those that are kept."""
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def interrupt(self, method: str, path: str, answer: Reply | Handler) -> None:
        """Answers the next request of that method and path (a regular expression) otherwise.

        An `answer` that is a function may call `server.answer(request)` first: that is a server
        error *after* the deed.
        """
        handler = answer if callable(answer) else lambda _request: answer
        with self._lock:
            self._faults.append((method, re.compile(path), handler))

    def answer(self, request: Request) -> Reply:
        """What the simulator says to a request, with no fault in the way."""
        try:
            return self._handle(request)
        except SimError as error:
            return self._on_error(error)

    def answer_or_fault(self, request: Request) -> Reply:
        """What this server says, faults included; remembers the exchange."""
        fault = self._take_fault(request)
        reply = self.answer(request) if fault is None else fault(request)
        with self._lock:
            self.exchanges.append((request, reply))
        return reply

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take_fault(self, request: Request) -> Handler | None:
        with self._lock:
            for index, (method, path, handler) in enumerate(self._faults):
                if method == request.method and path.fullmatch(request.path):
                    del self._faults[index]
                    return handler
        return None


def plain_error(error: SimError) -> Reply:
    """How a cloud's troubles look where a provider has no words of its own for them."""
    match error:
        case RateLimitedError(retry_after_s=after):
            return Reply(429, {"error": str(error)}, {"Retry-After": f"{after:g}"})
        case TimedOutError():
            return DROPPED
        case _:
            return Reply(500, {"error": str(error)})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to report."""


def _handler_for(server: WireServer) -> type[BaseHTTPRequestHandler]:
    class Handling(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            length = min(int(self.headers.get("Content-Length") or 0), MOST_BODY_BYTES)
            request = Request(
                method=self.command,
                path=unquote(parts.path),
                query=parse_qs(parts.query, keep_blank_values=True),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(length),
            )
            self._send(server.answer_or_fault(request))

        def _send(self, reply: Reply) -> None:
            if reply.dropped:
                self.close_connection = True
                return
            body, kind = _encoded(reply.body)
            headers = {"Content-Type": kind, **reply.headers}
            self.send_response(reply.status)
            if isinstance(body, bytes):
                headers["Content-Length"] = str(len(body))
            else:
                headers["Connection"] = "close"  # a stream ends with the connection
                self.close_connection = True
            if not server.keeps_alive:
                headers["Connection"] = "close"
                self.close_connection = True
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for chunk in [body] if isinstance(body, bytes) else body:
                if self.command != "HEAD":
                    self.wfile.write(chunk)
                    self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Says nothing: `exchanges` has it all."""

    return Handling


def _encoded(body: Any) -> tuple["bytes | Iterable[bytes]", str]:
    if isinstance(body, Mapping | list):
        return json.dumps(body).encode(), "application/json"
    return body, "application/octet-stream" if isinstance(body, bytes) else "text/event-stream"
