"""Requests to the Hugging Face Hub with the standard library: each has a time-out and an end.

Only for the store over a git repository (`hf_git`); drivers speak through huggingface_hub.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import IO, Any, cast
from urllib.parse import urlsplit

from kwanzaa_compute.clock import Clock

CALL_TIMEOUT_S = 60.0
RETRY_FOR_S = 300.0
"""The Hub limits commits by the hour: it may take a while until one is taken again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

Body = bytes | IO[bytes] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Hub says: `status` may be an error's."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; `OSError` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise OSError("the Hub's answer is not JSON") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the Hub to its storage, and leaves the token behind: it is for the Hub alone."""

    def redirect_request(  # noqa: PLR0917 -- as the standard library has it
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            following.remove_header("Authorization")
        return following


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the answer is the address itself."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class HubHttp:
    """Requests as the holder of one token, repeated while the Hub is busy or out of order."""

    endpoint: str
    token: str = field(repr=False)
    clock: Clock = field(default_factory=Clock)

    def ask(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool = True,
    ) -> Answer:
        """An answer; `OSError` where there is none for `RETRY_FOR_S`. A path is the Hub's own."""
        ends = self.clock.monotonic() + RETRY_FOR_S
        pause = FIRST_PAUSE_S
        while True:
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            try:
                with self.stream(method, url, body, headers, follow=follow) as reply:
                    answer = Answer(reply.status, _lower(reply.headers), reply.read())
                if not _busy(answer.status):
                    return answer
                trouble = f"the Hub answers {answer.status}"
                pause = max(pause, _seconds(answer.headers.get("retry-after")))
            except (OSError, http.client.HTTPException) as error:
                trouble = type(error).__name__  # never its words: they may hold a signed URL
            if self.clock.monotonic() + pause > ends:
                raise OSError(trouble)
            self.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool = True,
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is read piece by piece; asked for once."""
        own = url.startswith("/")
        request = urllib.request.Request(  # noqa: S310 -- the Hub's address, or one that it gave
            self.endpoint + url if own else url,
            data=body,
            method=method,
            headers={**(headers or {})},
        )
        if own:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            request.add_header("Content-Length", str(_size(body)))
        opener = urllib.request.build_opener(_Redirects if follow else _Stay)
        try:
            with opener.open(request, timeout=CALL_TIMEOUT_S) as reply:
                yield reply
        except urllib.error.HTTPError as error:
            with error:
                yield cast(http.client.HTTPResponse, error)  # it is an answer as well


def _busy(status: int) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _seconds(text: str | None) -> float:
    found = re.fullmatch(r"\d+(?:\.\d+)?", text or "")
    return float(found.group()) if found else 0.0


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size
