"""`hf://datasets/<namespace>/<repository>/<folder>`: a private git repository as a store.

The slower way on the Hugging Face Hub, for accounts whose bucket has no S3 keys. Every put is a
commit, of which the Hub takes 128 an hour, so the trainer's heartbeats are five minutes apart
here; the history, which would grow with every heartbeat, is squashed again and again. What was
replaced stays in the repository's storage until it is deleted with it.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from kwanzaa_compute.errors import (
    CredentialsError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
    UsageError,
)
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store.hub_http import Answer, Body, HubHttp
from kwanzaa_compute.store.objects import StoredObject, file_sha256
from kwanzaa_compute.store.objects import _checked as checked

HUB = "https://huggingface.co"
TOKEN = "KWANZAA_STORE_TOKEN"  # noqa: S105 -- a variable's name
HOW_TO_GET_A_TOKEN = (
    "make a fine-grained token that may write to this one data set at"
    f" https://huggingface.co/settings/tokens, then export {TOKEN}=hf_..."
)
SQUASHED_EVERY = 50
CHUNK_BYTES = 8 << 20
SAMPLE_BYTES = 512
_LFS = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}
_NEXT = re.compile(r'<[^>]*?(/api/[^>]*)>;\s*rel="next"')


class GitStore:
    """A `Store` on one data set repository of the Hub."""

    def __init__(self, url: str, http: HubHttp) -> None:
        """The folder that `url` names. Use `open_store` instead."""
        self._url = url.rstrip("/")
        namespace, name, folder = repository_of(url)
        self._repository = f"{namespace}/{name}"
        self._folder = f"{folder}/" if folder else ""
        self._http = http
        self._commits = 0

    @property
    def url(self) -> str:
        """Where this store is, without any credential."""
        return self._url

    def __repr__(self) -> str:
        return f"GitStore({self._url!r})"

    def put(self, path: str, data: bytes) -> None:
        """Writes an object, replacing what was there."""
        self._commit(self._addition(path, data, len(data), hashlib.sha256(data).hexdigest()))

    def create(self, path: str, data: bytes) -> None:
        """Writes an object that must not exist yet; raises `StoreExistsError` where it does."""
        addition = self._addition(path, data, len(data), hashlib.sha256(data).hexdigest())
        while True:
            head = self._checked("GET", f"/api/datasets/{self._repository}/revision/main").json()
            if self._exists(path, revision=str(head["sha"])):
                raise StoreExistsError(f"there already is a {self._where(path)}")
            # Refused where anybody has committed since: then it is looked at again.
            if self._commit(addition, parent=str(head["sha"])):
                return

    def get(self, path: str) -> bytes:
        """Reads an object; raises `StoreMissingError` where there is none."""
        return self._checked("GET", self._resolve(path), path=path).body

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""
        return self._exists(path, revision="main")

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The paths of the folders right below `prefix`, sorted."""
        below = f"{prefix.rstrip('/')}/"
        names = (item.path.removeprefix(below) for item in self.list(prefix))
        return tuple(sorted({below + name.split("/")[0] for name in names if "/" in name}))

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Every object below `prefix` (a folder), sorted by path."""
        folder = quote((self._folder + (checked(prefix) if prefix else "")).rstrip("/"))
        page: str | None = f"/api/datasets/{self._repository}/tree/main/{folder}?recursive=true"
        found: list[StoredObject] = []
        while page:
            answer = self._ask("GET", page)
            if answer.status == HTTPStatus.NOT_FOUND:
                break  # a folder without files does not exist
            self._must_be_fine(answer, prefix)
            found += [
                StoredObject(item["path"].removeprefix(self._folder), item["size"])
                for item in answer.json()
                if item["type"] == "file"
            ]
            following = _NEXT.search(answer.headers.get("link", ""))
            page = following.group(1) if following else None
        return sorted(found, key=lambda item: item.path)

    def delete(self, path: str) -> None:
        """Removes an object; already absent is fine."""
        if self.exists(path):
            self._commit({"key": "deletedFile", "value": {"path": self._folder + checked(path)}})

    def upload(self, source: Path, path: str) -> str:
        """Copies a local file into the store in a stream; returns its sha256 (hex)."""
        digest = file_sha256(source)
        with source.open("rb") as file:
            self._commit(self._addition(path, file, source.stat().st_size, digest))
        return digest

    def download(self, path: str, target: Path) -> str:
        """Copies an object to a local file, whole or not at all; returns its sha256 (hex)."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", self._resolve(path)) as reply, partial.open("wb") as out:
                self._must_be_fine(Answer(reply.status, {}, b""), path)
                while chunk := reply.read(CHUNK_BYTES):
                    digest.update(chunk)
                    out.write(chunk)
            partial.replace(target)
        except OSError as error:
            reason = type(error).__name__
            raise StoreError(f"the store failed at {self._where(path)}: {reason}") from None
        finally:
            partial.unlink(missing_ok=True)
        return digest.hexdigest()

    def signed_url(self, path: str, hours: float) -> Secret:
        """A URL that anybody may read this object at, for as long as the Hub gives it: an hour."""
        del hours
        answer = self._ask("HEAD", self._resolve(path), follow=False)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise StoreMissingError(f"there is no {self._where(path)}")
        if "location" not in answer.headers:
            raise StoreError(f"the Hub gives no address for {self._where(path)}")
        return Secret(answer.headers["location"])

    # -- inside -------------------------------------------------------------------------------

    def _addition(self, path: str, data: Body, size: int, sha256: str) -> dict[str, Any]:
        """What a commit says of a file, whose content the Hub has by then if it is a large one."""
        name = self._folder + checked(path)
        content = data if isinstance(data, bytes) else _begin(data)
        asked = {"path": name, "size": size, "sample": _base64(content[:SAMPLE_BYTES])}
        said = self._checked(
            "POST", f"/api/datasets/{self._repository}/preupload/main", {"files": [asked]}
        ).json()
        if said["files"][0]["uploadMode"] == "lfs":
            self._send_large(data, size, sha256)
            large = {"path": name, "algo": "sha256", "oid": sha256, "size": size}
            return {"key": "lfsFile", "value": large}
        whole = data if isinstance(data, bytes) else _whole(data)
        file = {"path": name, "encoding": "base64", "content": _base64(whole)}
        return {"key": "file", "value": file}

    def _send_large(self, data: Body, size: int, sha256: str) -> None:
        wanted = {"oid": sha256, "size": size}
        batch = {
            "operation": "upload",
            "transfers": ["basic"],
            "objects": [wanted],
            "hash_algo": "sha256",
        }
        path = f"/datasets/{self._repository}.git/info/lfs/objects/batch"
        (said,) = self._checked("POST", path, batch, _LFS).json()["objects"]
        actions = said.get("actions") or {}
        if "upload" not in actions:
            return  # the Hub has it already
        upload = actions["upload"]
        answer = self._ask("PUT", upload["href"], data, upload.get("header"))
        self._must_be_fine(answer, sha256)
        if "verify" in actions:
            verify = actions["verify"]["href"].removeprefix(self._http.endpoint)
            self._checked("POST", verify, wanted, _LFS)

    def _commit(self, operation: Mapping[str, Any], *, parent: str | None = None) -> bool:
        """Commits one change; False where `parent` is no longer the newest commit."""
        header: dict[str, Any] = {"summary": "kwanzaa-compute", "description": ""}
        if parent is not None:
            header["parentCommit"] = parent
        lines = [{"key": "header", "value": header}, operation]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        answer = self._ask(
            "POST",
            f"/api/datasets/{self._repository}/commit/main",
            body,
            {"Content-Type": "application/x-ndjson"},
        )
        if parent is not None and answer.status == HTTPStatus.PRECONDITION_FAILED:
            return False
        self._must_be_fine(answer, str(operation["value"]["path"]))
        self._commits += 1
        if self._commits % SQUASHED_EVERY == 0:
            squash = {"message": "kwanzaa-compute"}
            self._checked("POST", f"/api/datasets/{self._repository}/super-squash/main", squash)
        return True

    def _exists(self, path: str, *, revision: str) -> bool:
        answer = self._ask("HEAD", self._resolve(path, revision), follow=False)
        if answer.status == HTTPStatus.NOT_FOUND:
            return False
        if answer.status >= HTTPStatus.UNAUTHORIZED:
            self._must_be_fine(answer, path)
        return True

    def _resolve(self, path: str, revision: str = "main") -> str:
        return (
            f"/datasets/{self._repository}/resolve/{revision}/{quote(self._folder + checked(path))}"
        )

    def _checked(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = "",
    ) -> Answer:
        given = None if body is None else json.dumps(body).encode()
        answer = self._ask(method, url, given, headers or {"Content-Type": "application/json"})
        self._must_be_fine(answer, path)
        return answer

    def _ask(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool = True,
    ) -> Answer:
        try:
            return self._http.ask(method, url, body, headers, follow=follow)
        except OSError as error:
            raise StoreError(f"the store failed at {self._url}: {error}") from None

    def _must_be_fine(self, answer: Answer, path: str) -> None:
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return
        where = self._where(path)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise StoreMissingError(f"there is no {where}")
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise StoreError(f"no permission for {where}", mend=HOW_TO_GET_A_TOKEN)
        raise StoreError(f"the store failed at {where}: the Hub answers {answer.status}")

    def _where(self, path: str) -> str:
        return f"{path or '/'} in {self._url}"


def git_store(url: str, environment: Mapping[str, str]) -> GitStore:
    """The store that a URL names. Asks nobody yet.

    Raises `UsageError` for a URL of another form, `CredentialsError` where there is no token.
    """
    repository_of(url)
    found = environment.get(TOKEN) or environment.get("HF_TOKEN")
    if not found:
        raise CredentialsError(f"{url} needs a token", mend=HOW_TO_GET_A_TOKEN)
    return GitStore(url, HubHttp((environment.get("HF_ENDPOINT") or HUB).rstrip("/"), found))


def token(environment: Mapping[str, str]) -> Secret:
    """The token that a machine may have: one that the user limited to the repository."""
    if not environment.get(TOKEN):
        raise CredentialsError(
            f"a data set as a store needs a token of its own, and {TOKEN} is not set",
            mend=HOW_TO_GET_A_TOKEN,
        )
    return Secret(environment[TOKEN])


def repository_of(url: str) -> tuple[str, str, str]:
    """Namespace, repository and folder of `hf://datasets/<namespace>/<repository>/<folder>`."""
    parts = urlsplit(url)
    names = unquote(parts.path).strip("/").split("/", 2)
    if parts.netloc != "datasets" or len(names) < 2 or not all(names):  # noqa: PLR2004
        raise UsageError(
            f"{url.partition('?')[0]!r} is no data set of the Hub",
            mend="write hf://datasets/<your name>/<repository>; hf repos create <repository>"
            " --repo-type dataset --private makes one",
        )
    return names[0], names[1], names[2] if len(names) == 3 else ""  # noqa: PLR2004


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _begin(file: Body) -> bytes:
    start = file.read(SAMPLE_BYTES)  # type: ignore[union-attr]
    file.seek(0)  # type: ignore[union-attr]
    return bytes(start)


def _whole(file: Body) -> bytes:
    return bytes(file.read())  # type: ignore[union-attr]
