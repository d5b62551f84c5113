"""Where large files lie: a host of its own, as on the Hub, which knows contents by their hash."""

import hashlib
import re

from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer

_FROM = re.compile(r"bytes=(\d+)-")


class LargeFiles:
    """Takes and gives contents over HTTP, to whoever knows their sha256."""

    def __init__(self) -> None:
        """Listens from now on; `server.close()` ends it."""
        self.contents: dict[str, bytes] = {}
        self.server = WireServer(self._answer)
        self.url = self.server.url

    def _answer(self, request: Request) -> Reply:
        name = request.path.lstrip("/")
        if request.method == "PUT":
            if hashlib.sha256(request.body).hexdigest() != name:
                return Reply(422, {"error": "The content does not hash to its name"})
            self.contents[name] = request.body
            return Reply(body={})
        if request.method == "POST" and name == "verify":
            known = (request.json() or {}).get("oid") in self.contents
            return Reply(200 if known else 404, {})
        if name not in self.contents:
            return Reply(404, {"error": "Not Found"})
        return _from(self.contents[name], request.headers.get("range", ""))


def _from(content: bytes, wanted: str) -> Reply:
    """A content, or the rest of it where a download goes on."""
    found = _FROM.fullmatch(wanted)
    if found is None:
        return Reply(body=content)
    first = int(found[1])
    last = len(content) - 1
    return Reply(206, content[first:], {"Content-Range": f"bytes {first}-{last}/{last + 1}"})
