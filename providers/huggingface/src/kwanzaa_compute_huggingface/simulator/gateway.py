"""The S3 gateway of storage buckets, over moto's S3: what the gateway's documentation says of it.

It puts the namespace before the bucket, lists in version 2 only, answers a GET with the way to a
CDN, honours preconditions on a PUT, and refuses bulk deletes. For tests: moto is not installed
with the driver.
"""

import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode

from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer

if TYPE_CHECKING:
    from werkzeug.test import Client

KEY_ID, SECRET_KEY = "HFAKsimulated", "opens-nothing-but-this-simulation"
PROXIED = ("aws-cli", "botocore", "aws-sdk-rust")
"""Clients that do not follow a redirect, and are given the bytes at once."""
MOTO = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request"
_OWN_HEADERS = frozenset({"content-length", "connection", "transfer-encoding"})
_KEY_ID = re.compile(r"(?:.*Credential=)?([^/]+)/")


class BucketGateway:
    """One namespace's buckets. `keys` are the key ids that may use them; take one out to revoke."""

    def __init__(self, namespace: str, *buckets: str) -> None:
        """Has these buckets, empty."""
        self.namespace, self._buckets = namespace, buckets
        self._s3: Client
        self.keys = {KEY_ID}
        self._on_the_way: dict[str, Request] = {}

    def __enter__(self) -> Self:
        from moto.moto_server.werkzeug_app import create_backend_app
        from werkzeug.test import Client

        self._s3 = Client(create_backend_app("s3"))
        for bucket in self._buckets:
            self._s3.put(f"/{bucket}", base_url="http://127.0.0.1")
        self.server = WireServer(self._answer)
        self.cdn = WireServer(self._send)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.cdn.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a user sets to reach it."""
        return {
            "HF_S3_ENDPOINT": self.server.url,
            "HF_S3_ACCESS_KEY_ID": KEY_ID,
            "HF_S3_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def _answer(self, request: Request) -> Reply:
        signed = request.query.get("X-Amz-Credential", [""])[0]
        key = _KEY_ID.match(request.headers.get("authorization", "") or signed)
        if key is None or key[1] not in self.keys:
            return _refused(403, "AccessDenied")
        namespace, _, rest = request.path.lstrip("/").partition("/")
        if namespace != self.namespace:
            return _refused(404, "NoSuchBucket")
        _bucket, _, name = rest.partition("/")
        if "delete" in request.query or request.headers.get("content-encoding") == "aws-chunked":
            return _refused(501, "NotImplemented")
        if request.method == "GET" and not name:
            return self._list(request, rest)
        agent = request.headers.get("user-agent", "").lower()
        if request.method == "GET" and not any(one in agent for one in PROXIED):
            there = self._asked("HEAD", rest, request)
            return self._redirect(request, rest) if there.status < 400 else there  # noqa: PLR2004
        return self._asked(request.method, rest, request)

    def _list(self, request: Request, bucket: str) -> Reply:
        if request.query.get("list-type") != ["2"]:
            return _refused(501, "NotImplemented")
        return self._asked("GET", bucket, request)

    def _redirect(self, request: Request, path: str) -> Reply:
        """To the CDN, by a name that nobody can guess."""
        name = secrets.token_hex(16)
        self._on_the_way[name] = Request("GET", path, {}, request.headers, b"")
        return Reply(302, b"", {"Location": f"{self.cdn.url}/{name}"})

    def _send(self, request: Request) -> Reply:
        wanted = self._on_the_way.get(request.path.lstrip("/"))
        if wanted is None or "authorization" in request.headers:
            return _refused(403, "AccessDenied")  # credentials are none of the CDN's business
        return self._asked("GET", wanted.path, request)

    def _asked(self, method: str, path: str, request: Request) -> Reply:
        """What moto's S3 says."""
        query = {k: v for k, v in request.query.items() if not k.lower().startswith("x-amz")}
        headers = {k: v for k, v in request.headers.items() if k not in _OWN_HEADERS}
        headers["authorization"] = MOTO  # who may come in was settled by the gateway
        answer = self._s3.open(
            f"/{path}",
            # The server says the length of a body and leaves it away: a HEAD is a GET down here.
            method="GET" if method == "HEAD" else method,
            base_url="http://127.0.0.1",
            query_string=urlencode(query, doseq=True),
            headers=headers.items(),
            data=request.body,
        )
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _OWN_HEADERS}
        return Reply(answer.status_code, answer.get_data(), kept)


def _refused(status: int, code: str) -> Reply:
    said = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Reply(status, said.encode(), {"Content-Type": "application/xml"})
