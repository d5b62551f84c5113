"""The calls of REST v2 that we make. They bring JSON as it came, or raise what `http` raises."""

from collections.abc import Iterator
from typing import Any

from kwanzaa_compute.drivers.http import HttpClient, ReplyError, bearer, segment

API = "https://api.runpod.io"
KEY = "RUNPOD_API_KEY"
CALL_S = 30.0
CREATE_S = 32.0
"""With three calls to a registry before it, a launch stays below the minute that the core grants:
what the core has given up must not create anything any more."""
LOGS_S, LOGS_QUIET_S, LOG_LINES = 15.0, 3.0, 5000
MOST_PAGES = 200
PAGE = 1000


class RunPodClient:
    """RunPod's API with one account's key. Nothing is retried."""

    def __init__(self, key: str, endpoint: str = API) -> None:
        """Raises `CredentialsError` where there is no key, or none that can be sent."""
        self._http = HttpClient(
            endpoint,
            authorization=bearer(key, KEY),
            headers={"Accept": "application/json", "User-Agent": "kwanzaa-compute"},
            total_s=CALL_S,
        )

    def gpus(self, cloud: str, min_cuda: str) -> list[Any]:
        """What one cloud sells, with the stock of machines that have one GPU free.

        `min_cuda` ("12.6") counts only machines whose driver offers that CUDA; empty: all.
        """
        params: dict[str, str | int] = {
            "include": "AVAILABILITY",
            "product": "POD",
            "count": 1,
            "cloud": cloud,
        }
        if min_cuda:
            params["minCudaVersion"] = min_cuda
        return _listed(self._http.call("GET", "/v2/catalog/gpus", params=params).json(), "gpus")

    def volume(self, volume_id: str) -> dict[str, Any]:
        """One network volume of this account."""
        path = f"/v2/network-volumes/{segment(volume_id)}"
        return _mapping(self._http.call("GET", path).json())

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Asks for one pod."""
        return _mapping(self._http.call("POST", "/v2/pods", body=body, total_s=CREATE_S).json())

    def pod(self, pod_id: str) -> dict[str, Any]:
        """One pod."""
        return _mapping(self._http.call("GET", f"/v2/pods/{segment(pod_id)}").json())

    def pods(self) -> Iterator[Any]:
        """Every pod of the account. Raises rather than leave a page out."""
        params: dict[str, str | int] = {}
        for _ in range(MOST_PAGES):
            reply = self._http.call("GET", "/v2/pods", params=params).json()
            yield from _listed(reply, "pods")
            cursor = _next_cursor(reply)
            if cursor is None:
                return
            if cursor == params.get("cursor"):
                raise ReplyError("the list of pods names the same page twice")
            params = {"limit": PAGE, "cursor": cursor}
        raise ReplyError(f"the list of pods does not end after {MOST_PAGES} pages")

    def delete(self, pod_id: str) -> None:
        """Ends a pod."""
        self._http.call("DELETE", f"/v2/pods/{segment(pod_id)}")

    def logs(self, pod_id: str) -> list[str]:
        """The events of a pod's log so far, each a piece of JSON."""
        return self._http.events(
            f"/v2/pods/{segment(pod_id)}/logs",
            params={"tail": LOG_LINES},
            total_s=LOGS_S,
            quiet_s=LOGS_QUIET_S,
        )


def _mapping(reply: Any) -> dict[str, Any]:
    if not isinstance(reply, dict):
        raise ReplyError("the answer is not an object")
    return reply


def _listed(reply: Any, key: str) -> list[Any]:
    found = _mapping(reply).get(key)
    if not isinstance(found, list):
        raise ReplyError(f"the answer has no list {key!r}")
    return found


def _next_cursor(reply: dict[str, Any]) -> str | None:
    """Where the next page is. Lists have had pages since autumn 2026; a list without has one."""
    page = reply.get("pagination")
    if page is None:
        return None
    cursor = _mapping(page).get("nextCursor")
    if not page.get("hasNextPage", bool(cursor)):
        return None
    if not isinstance(cursor, str) or not cursor:
        raise ReplyError("the list of pods goes on, and does not say where")
    return cursor
