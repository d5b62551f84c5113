"""`HttpClient`: the whole call has a deadline, nothing leaks, nothing is followed."""

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.http import (
    HttpClient,
    NoAnswerError,
    ReplyError,
    StatusError,
    bearer,
    cleaned,
    retry_after_s,
    segment,
)
from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request, WireServer

KEY = "canary-4711"


def echo(request: Request) -> Reply:
    return Reply(body={"path": request.path, "auth": request.headers.get("authorization", "")})


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(echo) as server:
        yield server


@pytest.fixture
def client(server: WireServer) -> Iterator[HttpClient]:
    with HttpClient(server.url, authorization=bearer(KEY, "THE_KEY"), total_s=5) as client:
        yield client


def drip(clock: Clock) -> Iterator[bytes]:
    while True:
        yield b" "
        clock.sleep(0.02)


def test_a_call_brings_json(client: HttpClient) -> None:
    assert client.call("GET", "/a").json() == {"path": "/a", "auth": f"Bearer {KEY}"}


def test_the_deadline_is_one_of_the_whole_call(server: WireServer, client: HttpClient) -> None:
    """A server that sends one byte now and then never trips a time-out between two bytes."""
    server.interrupt("GET", "/slow", lambda _request: Reply(body=drip(Clock())))
    with pytest.raises(NoAnswerError, match=r"within 0\.3 s") as caught:
        client.call("GET", "/slow", total_s=0.3)
    assert caught.value.sent


def test_the_deadline_holds_while_headers_drip() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def dribble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                try:
                    while not ended.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=dribble, daemon=True)
        thread.start()
        client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with client, pytest.raises(NoAnswerError, match=r"within 0\.3 s"):
            client.call("GET", "/", total_s=0.3)
        ended.set()
        thread.join(5)
        assert not thread.is_alive()


def test_a_refused_connection_has_sent_nothing() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HttpClient(f"http://127.0.0.1:{port}") as client, pytest.raises(NoAnswerError) as caught:
        client.call("POST", "/machines", body={})
    assert not caught.value.sent


def test_a_dropped_connection_may_have_done_it(server: WireServer, client: HttpClient) -> None:
    server.interrupt("POST", "/machines", DROPPED)
    with pytest.raises(NoAnswerError) as caught:
        client.call("POST", "/machines", body={"name": "x"})
    assert caught.value.sent


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere(
    server: WireServer, client: HttpClient
) -> None:
    with WireServer(echo) as other:
        server.interrupt("GET", "/a", Reply(302, b"", {"Location": f"{other.url}/b"}))
        with pytest.raises(StatusError) as caught:
            client.call("GET", "/a")
        assert caught.value.status == 302
        assert other.exchanges == []


def test_a_stranger_with_a_certificate_of_his_own_gets_nothing(tmp_path: Path) -> None:
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with WireServer(echo, tls=context) as server, HttpClient(server.url) as client:
        with pytest.raises(NoAnswerError) as caught:
            client.call("GET", "/a", total_s=5)
        assert not caught.value.sent
        assert server.exchanges == []


def test_a_refusal_carries_its_text_cleaned(server: WireServer, client: HttpClient) -> None:
    server.interrupt("GET", "/a", Reply(500, b"\x1b[31mno\r\n\r\nway" + b"x" * 5000))
    with pytest.raises(StatusError) as caught:
        client.call("GET", "/a")
    assert caught.value.text.startswith("[31mno way")
    assert len(str(caught.value)) < 400
    assert caught.value.json() is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"NaN", b"[" * 100_000, b"\xff", b"9" * 5000])
def test_what_is_not_json_is_said_to_be_so(
    server: WireServer, client: HttpClient, body: bytes
) -> None:
    server.interrupt("GET", "/a", Reply(body=body))
    answer = client.call("GET", "/a")
    with pytest.raises(ReplyError, match="not JSON"):
        answer.json()


def test_an_encoding_that_lies_is_a_bad_reply(server: WireServer, client: HttpClient) -> None:
    server.interrupt("GET", "/a", Reply(body=b"plain", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(ReplyError):
        client.call("GET", "/a")


def test_events_that_came_in_time_are_the_answer(server: WireServer, client: HttpClient) -> None:
    def stream() -> Iterator[bytes]:
        yield b"id: 1\nevent: line\ndata: one\n\n"
        yield b": still here\n\ndata: two\r\ndata: lines\r\n\r\ndata: cut sh"
        yield from drip(Clock())

    server.interrupt("GET", "/logs", lambda _request: Reply(body=stream()))
    assert client.events("/logs", total_s=0.3) == ["one", "two\nlines"]


def test_a_stream_that_has_gone_quiet_is_not_waited_for(
    server: WireServer, client: HttpClient
) -> None:
    def stream() -> Iterator[bytes]:
        yield b"data: one\n\n"
        Clock().sleep(2)

    server.interrupt("GET", "/logs", lambda _request: Reply(body=stream()))
    assert client.events("/logs", total_s=60, quiet_s=0.2) == ["one"]


def test_a_stream_that_never_begins_is_no_answer(server: WireServer, client: HttpClient) -> None:
    def silent(_request: Request) -> Reply:
        Clock().sleep(1)
        return DROPPED

    server.interrupt("GET", "/logs", silent)
    with pytest.raises(NoAnswerError):
        client.events("/logs", total_s=60, quiet_s=0.2)


def test_a_refused_stream_of_events_is_an_error(server: WireServer, client: HttpClient) -> None:
    server.interrupt("GET", "/logs", Reply(404, {"detail": "pod not found"}))
    with pytest.raises(StatusError):
        client.events("/logs", total_s=5)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ü", "tab\t"])
def test_a_key_that_cannot_be_sent_is_never_shown(key: str) -> None:
    with pytest.raises(CredentialsError, match="THE_KEY") as caught:
        bearer(key, "THE_KEY")
    assert not key or key not in str(caught.value)


def test_no_error_shows_the_key(server: WireServer, client: HttpClient) -> None:
    server.interrupt("GET", "/a", DROPPED)
    server.interrupt("GET", "/b", Reply(403, b"forbidden"))
    for path in ("/a", "/b"):
        with pytest.raises((NoAnswerError, StatusError)) as caught:
            client.call("GET", path)
        chain = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert KEY not in "".join(f"{error!r}{error}" for error in chain)
    assert KEY not in repr(vars(client))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("1e9", 3600.0),
        ("inf", 3600.0),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:01:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, now=100.0) == seconds


@pytest.mark.parametrize("text", ["../../etc", "a b;c", "%00", "ü" * 40, "..", ".", "a/b?c#d"])
def test_a_segment_of_a_path_stays_one(server: WireServer, client: HttpClient, text: str) -> None:
    assert client.call("GET", f"/pods/{segment(text)}/logs").json()["path"] == f"/pods/{text}/logs"


def test_cleaned_text_is_one_short_line() -> None:
    assert cleaned("a\x00\u202e\nb") == "a b"
    assert cleaned("x" * 1000, 10) == "x" * 9 + "…"


def test_a_refusal_that_quotes_the_key_is_stripped_of_it(server: WireServer) -> None:
    server.interrupt("GET", "/", Reply(401, {"error": "the key canary-of-the-key is unknown"}))
    key = bearer("canary-of-the-key", "X_KEY")
    with (
        HttpClient(server.url, authorization=key) as client,
        pytest.raises(StatusError) as caught,
    ):
        client.call("GET", "/")
    assert b"canary" not in caught.value.content
    assert "the key *** is unknown" in str(caught.value)


def test_the_module_imports_no_http_library() -> None:
    code = "import kwanzaa_compute.drivers.http, sys; print('httpx2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
