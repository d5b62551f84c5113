"""The HTTP server that simulators answer through: what it passes on, and how it fails on demand."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import RemoteDisconnected

import pytest

from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute.testing.weather import RateLimitedError, ServerError, TimedOutError


def echo(request: Request) -> Reply:
    match request.path:
        case "/limited":
            raise RateLimitedError(7)
        case "/broken":
            raise ServerError("internal error")
        case "/silent":
            raise TimedOutError("no answer")
        case "/stream":
            return Reply(body=(chunk for chunk in (b"data: 1\n\n", b"data: 2\n\n")))
    said = {"method": request.method, "path": request.path, "query": dict(request.query)}
    return Reply(201, {**said, "json": request.json(), "bearer": request.bearer})


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(echo) as server:
        yield server


def ask(server: WireServer, path: str, **more: object) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(server.url + path, **more)  # type: ignore[arg-type]
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_a_request_arrives_as_it_was_sent(server: WireServer) -> None:
    status, body, _ = ask(
        server,
        "/a%20b?x=1&x=2&y=",
        method="POST",
        data=b'{"n": 1}',
        headers={"Authorization": "Bearer key"},
    )
    assert status == 201
    assert json.loads(body) == {
        "method": "POST",
        "path": "/a b",
        "query": {"x": ["1", "2"], "y": [""]},
        "json": {"n": 1},
        "bearer": "key",
    }
    assert [request.path for request, _ in server.exchanges] == ["/a b"]


def test_a_clouds_troubles_become_answers(server: WireServer) -> None:
    status, _, headers = ask(server, "/limited")
    assert (status, headers["Retry-After"]) == (429, "7")
    assert ask(server, "/broken")[0] == 500
    with pytest.raises(RemoteDisconnected):
        ask(server, "/silent")


def test_a_stream_comes_in_chunks(server: WireServer) -> None:
    status, body, headers = ask(server, "/stream")
    assert (status, body) == (200, b"data: 1\n\ndata: 2\n\n")
    assert headers["Content-Type"] == "text/event-stream"


def test_a_fault_meets_one_request_and_no_other(server: WireServer) -> None:
    server.interrupt("GET", "/x.*", Reply(502, b"<html>Bad Gateway</html>"))
    assert ask(server, "/y")[0] == 201
    assert ask(server, "/xyz")[0] == 502
    assert ask(server, "/xyz")[0] == 201


def test_an_error_can_come_after_the_deed(server: WireServer) -> None:
    done: list[Reply] = []

    def fails_afterwards(request: Request) -> Reply:
        done.append(server.answer(request))
        return Reply(500, {"error": "internal error"})

    server.interrupt("POST", "/create", fails_afterwards)
    assert ask(server, "/create", method="POST", data=b"{}")[0] == 500
    assert [reply.status for reply in done] == [201]


def test_a_client_that_hangs_up_disturbs_nobody(server: WireServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as one:
        one.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    assert ask(server, "/y")[0] == 201
