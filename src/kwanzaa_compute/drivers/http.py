"""Calls over HTTP for drivers: a deadline on the whole call, plain errors, nothing followed.

A driver whose provider speaks JSON over HTTP builds on `HttpClient`. It knows no provider: what
an answer means is the driver's business. Its package declares httpx2, which is imported when the
first call is made.

    HttpFailure
    +-- StatusError       the provider answered, and the answer is no
    +-- NoAnswerError     no answer came, or not in time; `sent` says whether it may have arrived
    +-- ReplyError        the answer cannot be understood
"""

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.secret import Secret

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 32 << 20
LONGEST_RETRY_S = 3600.0
LONGEST_TEXT = 300
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class HttpFailure(Exception):  # noqa: N818 -- the family; its members end in Error
    """A call that did not bring what was asked for. Never holds a credential."""


class NoAnswerError(HttpFailure):
    """No whole answer came. `sent` is False only where not one byte of the request was sent."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ReplyError(HttpFailure):
    """An answer came that is not what the provider's own description promises."""


class StatusError(HttpFailure):
    """The provider refused: a status that is not 2xx. `text` is its body, for people, cleaned.

    `call` says what was asked, "POST /v2/pods" say: the same status may mean something else there.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], content: bytes, call: str = ""
    ) -> None:
        self.status = status
        self.call = call
        self.headers = headers
        self.content = content
        self.text = cleaned(content[: 4 * LONGEST_TEXT].decode("utf-8", "replace"))
        super().__init__(f"HTTP {status}: {self.text}".rstrip(": "))

    def json(self) -> Any:
        """The body as JSON; None where it is not JSON. Never raises."""
        try:
            return _decoded(self.content)
        except ReplyError:
            return None

    def retry_after_s(self, now: float) -> float | None:
        """What `Retry-After` asks for, in seconds from `now` (since the epoch); None: nothing."""
        return retry_after_s(self.headers.get("retry-after", ""), now)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `ReplyError` where it is not (NaN and Infinity are not)."""
        return _decoded(self.content)


@dataclass(slots=True)
class _Line:
    """The connection of one call: what is sent on it, and what cuts it when time is up."""

    sent: bool = False
    cut: bool = False
    _socket: Any = field(default=None)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follows the client's own events, from the connection to the last byte."""
        _, _, step = event.partition(".")
        if step == "send_request_headers.started":
            self.sent = True
        elif step in {"connect_tcp.complete", "start_tls.complete"}:
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self.cut:
                    _hang_up(self._socket)

    def hang_up(self) -> None:
        """Ends the call wherever it is, from another thread."""
        with self._lock:
            self.cut = True
            _hang_up(self._socket)


class HttpClient:
    """Calls to one provider's API. Safe to use from several threads; each call connects anew.

    An idle connection that the other side has closed would turn the next create into one whose
    outcome nobody knows: that is not worth the few milliseconds.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        authorization: Secret | None = None,
        headers: Mapping[str, str] | None = None,
        total_s: float = 30.0,
        ca_file: str = "",
    ) -> None:
        """`authorization` is the whole header's value; `total_s` limits each call as a whole.

        `ca_file` names the authorities to believe in the place of the usual ones.
        """
        self._endpoint = endpoint.rstrip("/")
        self._authorization = authorization
        self._headers = dict(headers or {})
        self._total_s = total_s
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Any = None,
        total_s: float | None = None,
    ) -> Answer:
        """One request and its whole answer, within `total_s` seconds. Follows no redirect.

        Raises `StatusError` (every status but 2xx), `NoAnswerError` or `ReplyError`.
        """
        limit_s = total_s or self._total_s
        with self._stream(method, path, params, body, limit_s=limit_s) as response:
            content = b"".join(_limited(response))
            headers = {name.lower(): value for name, value in response.headers.items()}
        if not 200 <= response.status_code < 300:  # noqa: PLR2004 -- as HTTP has it
            said = self._without_key(content)
            raise StatusError(response.status_code, headers, said, f"{method} {path}")
        return Answer(response.status_code, headers, content)

    def events(
        self,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        total_s: float,
        quiet_s: float | None = None,
    ) -> list[str]:
        """The data of the server-sent events that come within `total_s`, oldest first.

        The stream need not end: when time is up, or nothing has come for `quiet_s`, what has come
        until then is the answer. A server that has not even begun to answer is a `NoAnswerError`.
        """
        found: list[str] = []
        begun = False
        try:
            stream = self._stream("GET", path, params, None, limit_s=total_s, quiet_s=quiet_s)
            with stream as response:
                begun = True
                if response.status_code != 200:  # noqa: PLR2004 -- as HTTP has it
                    content = b"".join(_limited(response))
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    said = self._without_key(content)
                    raise StatusError(response.status_code, headers, said, f"GET {path}")
                for event in _events(_limited(response)):
                    found.append(event)  # noqa: PERF402 -- what came before a cut must stay
        except _TimeIsUpError:
            if not begun:
                raise
        return found

    def close(self) -> None:
        """Lets go of the client; the next call makes a new one."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    @contextmanager
    def _stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None,
        body: Any,
        *,
        limit_s: float,
        quiet_s: float | None = None,
    ) -> "Iterator[httpx2.Response]":
        import httpx2

        line = _Line()
        timer = threading.Timer(limit_s, line.hang_up)
        timer.daemon = True
        timer.start()
        try:
            with self._ready().stream(
                method,
                f"{self._endpoint}{path}",
                params=params,
                headers=self._all_headers(body),
                content=None if body is None else json.dumps(body, allow_nan=False).encode(),
                timeout=httpx2.Timeout(limit_s, read=quiet_s or limit_s),
                extensions={"trace": line.trace},
            ) as response:
                yield response
                if line.cut:
                    raise _TimeIsUpError(limit_s, sent=line.sent)
        except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            if line.cut or isinstance(error, httpx2.TimeoutException):
                raise _TimeIsUpError(limit_s, sent=line.sent) from error
            if isinstance(error, httpx2.DecodingError):
                raise ReplyError("the answer is not encoded as it says") from error
            raise NoAnswerError(f"no answer: {type(error).__name__}", sent=line.sent) from error
        finally:
            timer.cancel()

    def _ready(self) -> "httpx2.Client":
        import ssl

        import httpx2

        with self._lock:
            if self._client is None:
                here = (urlsplit(self._endpoint).hostname or "") in _LOOPBACK
                trusted = (
                    ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True
                )
                self._client = httpx2.Client(
                    verify=trusted,
                    follow_redirects=False,  # the key goes to nobody else
                    trust_env=not here,  # a proxy cannot reach a simulator
                    limits=httpx2.Limits(max_keepalive_connections=0),
                )
            return self._client

    def _without_key(self, content: bytes) -> bytes:
        """A refusal that quotes our own key must not carry it into a log."""
        if self._authorization is None:
            return content
        key = self._authorization.reveal().rpartition(" ")[2]
        return content.replace(key.encode(), b"***") if key else content

    def _all_headers(self, body: Any) -> dict[str, str]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._authorization is not None:
            headers["Authorization"] = self._authorization.reveal()
        return headers


class _TimeIsUpError(NoAnswerError):
    """The call as a whole took too long."""

    def __init__(self, limit_s: float, *, sent: bool) -> None:
        super().__init__(f"no whole answer within {limit_s:g} s", sent=sent)


def bearer(key: str, variable: str) -> Secret:
    """An API key as the value of an `Authorization` header.

    Raises `CredentialsError`, which names `variable` and never the key, for one that cannot be
    sent: an empty one, or one with a line break that a paste has left in it.
    """
    if not key:
        raise CredentialsError(
            f"{variable} is not set", mend=f"export {variable}=...", nothing_was_created=True
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CredentialsError(
            f"{variable} holds a space, a line break or a letter that no key has",
            mend=f"set {variable} again",
            nothing_was_created=True,
        )
    return Secret(f"Bearer {key}")


def segment(text: str) -> str:
    """Somebody else's text as one segment of a path, whatever it holds."""
    return quote(text, safe="").replace(".", "%2E") if set(text) <= {"."} else quote(text, safe="")


def retry_after_s(value: str, now: float) -> float | None:
    """A `Retry-After` header in seconds from `now` (since the epoch), at most an hour.

    It may hold seconds or a date. None where it holds neither, or nothing.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            date: datetime = parsedate_to_datetime(value)
            seconds = date.timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_S)


def cleaned(text: str, longest: int = LONGEST_TEXT) -> str:
    """Somebody else's text on one line, without control characters, cut to a length."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * longest])
    line = " ".join(printable.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ReplyError(f"the answer is not JSON ({len(content)} bytes)") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _limited(response: "httpx2.Response") -> Iterator[bytes]:
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > MOST_BYTES:
            raise ReplyError(f"the answer is longer than {MOST_BYTES >> 20} MiB")
        yield chunk


def _events(chunks: Iterator[bytes]) -> Iterator[str]:
    """The data of each server-sent event; one that is cut short is none."""
    data: list[str] = []
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip("\r")
            if not line and data:
                yield "\n".join(data)
                data = []
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))


def _hang_up(connection: Any) -> None:
    import socket

    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself
