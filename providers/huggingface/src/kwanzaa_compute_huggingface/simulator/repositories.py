"""Repositories of the simulated Hub: models, data sets and Spaces, with commits and large files."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute_huggingface.simulator.answers import (
    HubError,
    Route,
    fields_of,
    no_such_repository,
    timestamp,
)
from kwanzaa_compute_huggingface.simulator.large_files import LargeFiles

if TYPE_CHECKING:
    from kwanzaa_compute_huggingface.simulator.hub import HubSimulator

CREATE = {
    "organization",
    "type",
    "visibility",
    "private",
    "sdk",
    "hardware",
    "sleepTimeSeconds",
    "secrets",
    "variables",
    "volumes",
    "license",
}
CARD_PARTS = 3
LARGE_BYTES = 10_000_000
LARGE_ENDINGS = (".safetensors", ".bin", ".pt", ".zip", ".gz")
_KIND = r"/api/(model|dataset|space)s/([^/]+/[^/]+)"
_PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}


@dataclass(slots=True)
class StoredFile:
    """One file of a repository. `large`: it went the way of git LFS."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        """What it hashes to: its name as a large file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def sha1(self) -> str:
        """What git calls it."""
        head = f"blob {len(self.content)}\0".encode()
        return hashlib.sha1(head + self.content, usedforsecurity=False).hexdigest()

    @property
    def tag(self) -> str:
        """Its ETag."""
        return self.sha256 if self.large else self.sha1


@dataclass(slots=True)
class Repository:
    """One repository with its newest files; `commits` are its history, the newest last."""

    kind: str
    name: str
    private: bool
    created_at: float
    settings: dict[str, Any] = field(default_factory=dict)
    """For a Space: what its creator asked of it."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class Repositories:
    """The routes of repositories. `on_change` is called after every commit, and after a delete."""

    def __init__(self, hub: "HubSimulator", on_change: Callable[[Repository, bool], None]) -> None:
        """Of this Hub."""
        self._hub, self._on_change = hub, on_change
        self.all: dict[tuple[str, str], Repository] = {}
        self._large = LargeFiles()
        self.routes: list[Route] = [
            ("POST", r"/api/repos/create", self._create),
            ("DELETE", r"/api/repos/delete", self._delete),
            ("POST", r"/api/validate-yaml", _validate_card),
            ("POST", _KIND + r"/preupload/[^/]+", self._preupload),
            ("POST", _KIND + r"/commit/[^/]+", self._commit),
            ("PUT", _KIND + r"/settings", self._set),
            ("GET", _KIND + r"(?:/revision/[^/]+)?", self._info),
            ("GET", _KIND + r"/tree/[^/]+(?:/(.*))?", self._tree),
            ("POST", _KIND + r"/super-squash/[^/]+", self._squash),
            (
                "POST",
                r"/(?:(dataset|space)s/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch",
                self._batch,
            ),
            ("GET", r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", self._resolve),
            ("HEAD", r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", self._resolve),
        ]

    def close(self) -> None:
        """Ends the storage of large files."""
        self._large.server.close()

    def find(self, request: Request, kind: str | None, name: str) -> Repository:
        """The repository of that name; 404 where there is none for whoever asks."""
        found = self.all.get((kind or "model", name))
        if found is None or (found.private and not self._hub.may_see(request, name)):
            raise no_such_repository()
        return found

    def _create(self, request: Request) -> Reply:
        asked: dict[str, Any] = fields_of(request, {"name": str}, CREATE)
        kind = asked.get("type") or "model"
        owner = asked.get("organization") or self._hub.user_of(request)
        self._hub.must_be_allowed(request, owner)
        name = f"{owner}/{asked['name']}"
        url = f"{self._hub.endpoint}/{_PREFIXES[kind]}{name}"
        if (kind, name) in self.all:
            raise HubError(409, "You already created this repo")
        if kind == "space":
            self._hub.spaces.check(asked)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        made = Repository(kind, name, private, self._hub.cloud.clock.at, settings=asked)
        made.commits.append(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest())
        self.all[kind, name] = made
        return Reply(body={"url": url, "name": name, "id": hashlib.md5(name.encode()).hexdigest()})  # noqa: S324

    def _delete(self, request: Request) -> Reply:
        asked: dict[str, Any] = fields_of(request, {"name": str}, {"organization", "type"})
        owner = asked.get("organization") or self._hub.user_of(request)
        self._hub.must_be_allowed(request, owner)
        found = self.find(request, asked.get("type"), f"{owner}/{asked['name']}")
        del self.all[found.kind, found.name]
        self._on_change(found, False)
        return Reply(body=b"OK")

    def _set(self, request: Request, kind: str, name: str) -> Reply:
        found = self.find(request, kind, name)
        self._hub.must_be_allowed(request, name.partition("/")[0])
        asked: dict[str, Any] = fields_of(request, {"visibility": str}, set())
        if asked["visibility"] not in {"public", "private"}:
            raise HubError(400, "Invalid visibility")
        found.private = asked["visibility"] == "private"
        return Reply(body={"private": found.private})

    def _info(self, request: Request, kind: str, name: str) -> Reply:
        found = self.find(request, kind, name)
        return Reply(body=self.shown(found))

    def shown(self, found: Repository) -> dict[str, Any]:
        """A repository as the API shows it."""
        return {
            "_id": hashlib.md5(found.name.encode()).hexdigest()[:24],  # noqa: S324
            "id": found.name,
            "author": found.name.partition("/")[0],
            "private": found.private,
            "gated": False,
            "disabled": False,
            "sha": found.commits[-1],
            "createdAt": timestamp(found.created_at),
            "lastModified": timestamp(found.created_at),
            "tags": [],
            "likes": 0,
            "downloads": 0,
            "siblings": [{"rfilename": path} for path in sorted(found.files)],
        }

    def _preupload(self, request: Request, kind: str, name: str) -> Reply:
        found = self.find(request, kind, name)
        self._hub.must_be_allowed(request, name.partition("/")[0])
        files = []
        for asked in request.json()["files"]:
            large = asked["size"] > LARGE_BYTES or asked["path"].endswith(LARGE_ENDINGS)
            there = found.files.get(asked["path"])
            files.append(
                {
                    "path": asked["path"],
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False,
                    "oid": there.tag if there else None,
                }
            )
        return Reply(body={"files": files})

    def _batch(self, request: Request, kind: str | None, name: str) -> Reply:
        self.find(request, kind, name)
        objects = []
        for asked in request.json()["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self._large.contents:
                upload = {"href": f"{self._large.url}/{asked['oid']}"}
                verify = {"href": f"{self._large.url}/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return Reply(body={"transfer": "basic", "objects": objects})

    def _commit(self, request: Request, kind: str, name: str) -> Reply:
        found = self.find(request, kind, name)
        self._hub.must_be_allowed(request, name.partition("/")[0])
        operations = [json.loads(line) for line in request.body.splitlines()]
        parents = [o["value"].get("parentCommit") for o in operations if o["key"] == "header"]
        if any(parent not in {None, found.commits[-1]} for parent in parents):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        for operation in operations:
            self._apply(found, operation["key"], operation["value"])
        before = found.commits[-1].encode()
        oid = hashlib.sha1(request.body + before, usedforsecurity=False).hexdigest()
        found.commits.append(oid)
        self._on_change(found, True)
        url = f"{self._hub.endpoint}/{_PREFIXES[kind]}{name}/commit/{oid}"
        said = {"success": True, "commitUrl": url, "commitOid": oid, "hookOutput": ""}
        return Reply(body=said)

    def _apply(self, found: Repository, key: str, value: dict[str, Any]) -> None:
        match key:
            case "file":
                found.files[value["path"]] = StoredFile(base64.b64decode(value["content"]), False)
            case "lfsFile" if value["oid"] in self._large.contents:
                found.files[value["path"]] = StoredFile(self._large.contents[value["oid"]], True)
            case "lfsFile":
                raise HubError(400, f"There is no large file {value['oid']}")
            case "deletedFile":
                found.files.pop(value["path"], None)
            case "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                found.files = {p: f for p, f in found.files.items() if not p.startswith(folder)}

    def _tree(self, request: Request, kind: str, name: str, folder: str | None) -> Reply:
        found = self.find(request, kind, name)
        prefix = f"{folder}/" if folder else ""
        if prefix and not any(path.startswith(prefix) for path in found.files):
            raise HubError(404, f"{folder} does not exist", code="EntryNotFound")
        return Reply(
            body=[
                _listed(path, file) for path, file in found.files.items() if path.startswith(prefix)
            ]
        )

    def _squash(self, request: Request, kind: str, name: str) -> Reply:
        found = self.find(request, kind, name)
        self._hub.must_be_allowed(request, name.partition("/")[0])
        del found.commits[:-1]
        return Reply(body={})

    def _resolve(self, request: Request, kind: str | None, name: str, path: str) -> Reply:
        found = self.find(request, kind, name)
        file = found.files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", code="EntryNotFound")
        headers = {
            "X-Repo-Commit": found.commits[-1],
            "ETag": f'"{file.tag}"',
            "Accept-Ranges": "bytes",
        }
        if file.large:
            linked = {"X-Linked-Etag": f'"{file.tag}"', "X-Linked-Size": str(len(file.content))}
            where = {"Location": f"{self._large.url}/{file.sha256}"}
            return Reply(302, b"", {**headers, **linked, **where})
        return Reply(body=file.content, headers=headers)


def _validate_card(request: Request) -> Reply:
    """Whether the front matter of a README is one: a Space's names its SDK."""
    asked: dict[str, Any] = fields_of(request, {"content": str, "repoType": str}, set())
    parts = asked["content"].split("---\n")
    try:
        card = yaml.safe_load(parts[1]) if len(parts) > CARD_PARTS - 1 else {}
    except yaml.YAMLError as error:
        return Reply(400, {"errors": [{"message": str(error)}], "warnings": []})
    if asked["repoType"] == "space" and card.get("sdk") not in {"docker", "gradio", "static"}:
        return Reply(400, {"errors": [{"message": '"sdk" must be one of [...]'}], "warnings": []})
    return Reply(body={"errors": [], "warnings": []})


def _listed(path: str, file: StoredFile) -> dict[str, Any]:
    listed: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(file.content),
        "oid": file.sha1,
    }
    if file.large:
        listed["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 134}
    return listed
