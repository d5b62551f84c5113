"""No answer of the Hub's, or none at all, holds a call longer than its deadline."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.errors import InvalidRequestError, TransientError
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute_huggingface.deadline import within
from kwanzaa_compute_huggingface.hub import Hub

DEADLINE_S = 0.5
PATIENCE_S = 30.0
NAME = "hugging face call"
ENVIRONMENT = {"HF_TOKEN": "hf_tokenofthistest", "HF_NAMESPACE": "me"}


Treat = Callable[[socket.socket, threading.Event], None]


@pytest.fixture
def listener() -> Iterator[Callable[[Treat], str]]:
    """Starts a server that treats every connection as it is told; gives its address."""
    over = threading.Event()
    sockets: list[socket.socket] = []

    def start(treat: Treat) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=treat, args=(connection, over), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    over.set()
    for server in sockets:
        server.close()


def silent(connection: socket.socket, over: threading.Event) -> None:
    with connection:
        connection.recv(1 << 16)
        over.wait()


def in_drops(connection: socket.socket, over: threading.Event) -> None:
    with connection, suppress(OSError):
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not over.wait(0.05):
            connection.sendall(b"x")


def outcome(call: Callable[[], object]) -> BaseException:
    """How a call ends; fails the test where it does not."""
    ends: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 -- what it is, is what is asked
            ends.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it is still waiting"
    assert ends
    return ends[0]


@pytest.mark.parametrize("treat", [silent, in_drops])
def test_a_server_that_does_not_answer_does_not_hold_us(
    listener: Callable[[Treat], str], treat: Treat
) -> None:
    hub = Hub(DriverContext(ENVIRONMENT, Clock(), listener(treat)), call_s=DEADLINE_S)
    error = outcome(lambda: hub.call(lambda api: api.run_job(image="x", command=["y"])))
    assert isinstance(error, Exception)
    meaning = hub.classify(error)
    assert isinstance(meaning, TransientError)
    assert not meaning.nothing_was_created


def test_a_loop_of_retries_ends_with_the_deadline() -> None:
    """huggingface_hub asks again for ever while the Hub says that it is at it."""
    busy = {"error": "Cannot create repo: another conflicting operation is in progress"}
    before = set(threading.enumerate())
    with WireServer(lambda _request: Reply(409, busy)) as server:
        hub = Hub(DriverContext(ENVIRONMENT, Clock(), server.url), call_s=DEADLINE_S)
        outcome(lambda: hub.call(lambda api: api.create_repo("me/x")))
        clock = Clock()
        until = clock.monotonic() + PATIENCE_S
        while any(thread.name == NAME for thread in set(threading.enumerate()) - before):
            assert clock.monotonic() < until, "it asks on and on"
            clock.sleep(0.02)


def test_what_runs_outside_of_a_deadline_is_left_as_it_is() -> None:
    """The client is everybody's: a download of the user's own may take as long as it takes."""
    seen: list[object] = []

    def look(request: Request) -> Reply:
        seen.append(request)
        return Reply(body={})

    with WireServer(look) as server:
        from huggingface_hub.utils import get_session

        within(5.0, lambda: None)
        request = get_session().build_request("GET", server.url)
        for hook in get_session().event_hooks["request"]:
            hook(request)
        assert set(request.extensions["timeout"].values()) == {None}


def test_the_clients_own_hook_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forbids to ask where HF_HUB_OFFLINE is set, and that is said."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub = Hub(DriverContext(ENVIRONMENT, Clock(), "http://127.0.0.1:1"))
    with pytest.raises(Exception, match="offline mode") as caught:
        hub.call(lambda api: api.whoami())
    meaning = hub.classify(caught.value)
    assert isinstance(meaning, InvalidRequestError)
    assert "HF_HUB_OFFLINE" in meaning.message
    assert meaning.nothing_was_created
