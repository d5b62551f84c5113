"""How the simulated Hub refuses, and how it writes times."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute.testing.weather import RateLimitedError, SimError, TimedOutError

Handler = Callable[..., Reply]
Route = tuple[str, str, Handler]
"""Method, path (a regular expression), and a function of the request and the path's groups."""


class HubError(Exception):
    """A refusal, with the headers by which huggingface_hub tells refusals apart."""

    def __init__(self, status: int, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.reply = Reply(status, {"error": message}, _headers(message, code))


def _headers(message: str, code: str) -> Mapping[str, str]:
    headers = {"X-Error-Message": message}
    return {**headers, "X-Error-Code": code} if code else headers


def no_such_repository() -> HubError:
    """What is said of a repository that does not exist, or may not be seen."""
    return HubError(404, "Repository not found", code="RepoNotFound")


def trouble(error: SimError) -> Reply:
    """What the cloud's troubles look like on the Hub."""
    match error:
        case RateLimitedError(retry_after_s=after):
            return Reply(429, {"error": "Too Many Requests"}, {"Retry-After": f"{after:.0f}"})
        case TimedOutError():
            return Reply(dropped=True)
        case _:
            return Reply(500, {"error": "Internal Server Error"})


def timestamp(seconds: float) -> str:
    """An instant as the Hub writes it, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def fields_of(
    request: Request, required: Mapping[str, type], allowed: set[str]
) -> dict[str, object]:
    """The JSON object of a request; 400 where it lacks a field, or has one that nobody knows."""
    try:
        body = request.json()
    except ValueError:
        raise HubError(400, "Invalid JSON") from None
    if not isinstance(body, dict):
        raise HubError(400, "Expected an object")
    for name, kind in required.items():
        if not isinstance(body.get(name), kind):
            raise HubError(400, f"Invalid input: {name}")
    if unknown := sorted(set(body) - set(required) - allowed):
        raise HubError(400, f"Unrecognized keys: {', '.join(unknown)}")
    return body
