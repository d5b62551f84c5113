"""A container registry that knows what a tag means today, to whoever has fetched a token."""

import hashlib
from dataclasses import dataclass, field

from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer

TOKEN = "simulated-registry-token"  # noqa: S105 -- everybody gets it


@dataclass(slots=True)
class SimRegistry:
    """`server` listens; every image has a digest but those in `missing`."""

    missing: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    """Digests of tags that have been pushed again."""
    server: WireServer = field(init=False)

    def __post_init__(self) -> None:
        """Begins to listen."""
        self.server = WireServer(self.handle)

    def handle(self, request: Request) -> Reply:
        """The answer to one request."""
        if request.path == "/token":
            return Reply(200, {"token": TOKEN})
        if request.bearer != TOKEN:
            challenge = f'Bearer realm="{self.server.url}/token",service="sim",scope="pull"'
            return Reply(401, {"errors": []}, {"WWW-Authenticate": challenge})
        name, _, tag = request.path.removeprefix("/v2/").partition("/manifests/")
        if not tag or f"{name}:{tag}" in self.missing:
            return Reply(404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]})
        return Reply(200, b"", {"Docker-Content-Digest": self.digest(f"{name}:{tag}")})

    def digest(self, image: str) -> str:
        """What a tag means today."""
        return self.moved.get(image) or f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
