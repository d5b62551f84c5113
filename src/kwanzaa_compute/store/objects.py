"""Object storage behind one small interface: `file://`, `s3://`, `gs://`, `az://`, `hf://`.

Every call has a time-out and bounded retries, so a silent server never holds us. Neither
exceptions nor `repr` carry a credential, a signed URL or a query string.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import StoreError, StoreMissingError, UsageError
from kwanzaa_compute.failpoint import failpoint
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import azure
from kwanzaa_compute.store.hf import bucket_store
from kwanzaa_compute.store.on_disk import create_file, read_file
from kwanzaa_compute.store.refusals import errors_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential
    from obstore.store import ObjectStore as ObstoreStore

SCHEMES = ("file", "s3", "gs", "az", "hf")
CALL_TIMEOUT_S = 60
RETRY_FOR_S = 120
CHUNK_BYTES = 8 << 20
MOST_SIGNED_HOURS = 7 * 24.0


class Sign(Protocol):
    """Makes a URL that one object can be read at, for so many hours from `now`."""

    def __call__(self, path: str, *, hours: float, now: float) -> Secret | None:
        """None where this environment's credential cannot sign."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object: its path below the store's root, and its size in bytes."""

    path: str
    size: int


class Store(Protocol):
    """A folder of objects. Paths are relative, with `/`; a put is atomic: all of it or nothing."""

    @property
    def url(self) -> str:
        """Where this store is, without any credential."""

    def put(self, path: str, data: bytes) -> None:
        """Writes an object, replacing what was there."""

    def create(self, path: str, data: bytes) -> None:
        """Writes an object that must not exist yet; raises `StoreExistsError` where it does."""

    def get(self, path: str) -> bytes:
        """Reads an object; raises `StoreMissingError` where there is none."""

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Every object below `prefix` (a folder), sorted by path."""

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The paths of the folders right below `prefix`, sorted; asks for nothing inside them."""

    def delete(self, path: str) -> None:
        """Removes an object; already absent is fine."""

    def upload(self, source: Path, path: str) -> str:
        """Copies a local file into the store in a stream; returns its sha256 (hex)."""

    def download(self, path: str, target: Path) -> str:
        """Copies an object to a local file, whole or not at all; returns its sha256 (hex)."""

    def signed_url(self, path: str, hours: float) -> Secret:
        """A URL that anybody may read this object at for so many hours: as secret as a key."""


class ObjectStore:
    """A `Store` on obstore (S3, Google Cloud Storage, Azure Blob, local files)."""

    def __init__(
        self,
        url: str,
        backend: "ObstoreStore",
        folder: Path | None = None,
        sign: "Sign | None" = None,
    ) -> None:
        """Wraps an obstore store that is rooted at `url`. Use `open_store` instead.

        `folder` is where it lies, if it lies on this machine. `sign` makes signed URLs in a
        better way than obstore has; None where it cannot.
        """
        self._url = url.rstrip("/")
        self._backend = backend
        self._folder = folder
        self._sign = sign

    @property
    def url(self) -> str:
        """Where this store is, without any credential."""
        return self._url

    def __repr__(self) -> str:
        return f"ObjectStore({self._url!r})"

    def put(self, path: str, data: bytes) -> None:
        """Writes an object, replacing what was there."""
        import obstore

        failpoint("store.put")
        with errors_of(self._url, path):
            obstore.put(self._backend, _checked(path), data)

    def create(self, path: str, data: bytes) -> None:
        """Writes an object that must not exist yet; raises `StoreExistsError` where it does."""
        import obstore

        failpoint("store.create")
        with errors_of(self._url, path):
            if self._folder is not None:
                create_file(self._folder / _checked(path), data)
                return
            obstore.put(self._backend, _checked(path), data, mode="create", use_multipart=False)

    def get(self, path: str) -> bytes:
        """Reads an object; raises `StoreMissingError` where there is none."""
        import obstore

        with errors_of(self._url, path):
            if self._folder is not None:
                return read_file(f"{self._folder}/{_checked(path)}")
            return bytes(obstore.get(self._backend, _checked(path)).bytes())

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""
        import obstore

        try:
            with errors_of(self._url, path):
                obstore.head(self._backend, _checked(path))
        except StoreMissingError:
            return False
        return True

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Every object below `prefix` (a folder), sorted by path."""
        import obstore

        found: list[StoredObject] = []
        with errors_of(self._url, prefix):
            for batch in obstore.list(self._backend, _checked(prefix) if prefix else None):
                found += [StoredObject(item["path"], item["size"]) for item in batch]
        return sorted(found, key=lambda item: item.path)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The paths of the folders right below `prefix`, sorted; asks for nothing inside them."""
        import obstore

        with errors_of(self._url, prefix):
            found = obstore.list_with_delimiter(self._backend, _checked(prefix))
        return tuple(sorted(found["common_prefixes"]))

    def delete(self, path: str) -> None:
        """Removes an object; already absent is fine."""
        import obstore

        failpoint("store.delete")
        try:
            with errors_of(self._url, path):
                obstore.delete(self._backend, _checked(path))
        except StoreMissingError:
            return

    def upload(self, source: Path, path: str) -> str:
        """Copies a local file into the store in a stream; returns its sha256 (hex)."""
        import obstore

        digest = file_sha256(source)
        failpoint("store.upload")
        with errors_of(self._url, path):
            obstore.put(self._backend, _checked(path), source)
        return digest

    def download(self, path: str, target: Path) -> str:
        """Copies an object to a local file, whole or not at all; returns its sha256 (hex)."""
        import obstore

        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            with errors_of(self._url, path), partial.open("wb") as out:
                for chunk in obstore.get(self._backend, _checked(path)).stream(CHUNK_BYTES):
                    data = bytes(chunk)
                    digest.update(data)
                    out.write(data)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return digest.hexdigest()

    def signed_url(self, path: str, hours: float) -> Secret:
        """A URL that anybody may read this object at for so many hours (a week at most).

        That of a `file://` store is the file's own. Raises `StoreDeniedError` where the
        credential cannot sign.
        """
        import obstore
        from obstore.store import AzureStore, GCSStore, S3Store

        hours = min(hours, MOST_SIGNED_HOURS)
        if self._sign and (signed := self._sign(_checked(path), hours=hours, now=Clock().now())):
            return signed
        if not isinstance(self._backend, AzureStore | GCSStore | S3Store):
            return Secret(f"{self._url}/{_checked(path)}")
        expires = timedelta(hours=hours)
        with errors_of(self._url, path):
            return Secret(obstore.sign(self._backend, "GET", _checked(path), expires))


def open_store(url: str, environment: Mapping[str, str] | None = None) -> Store:
    """The store at a URL; credentials come from the usual variables of its scheme.

    `environment` is where they are looked up (default: this process's own); for `gs://` it is
    always the process's. `file:///folder` is made with mode 0700 where it is missing. Raises
    `UsageError` for what `require_store_url` refuses.
    """
    require_store_url(url)
    given = os.environ if environment is None else environment
    if url.startswith("hf://datasets/"):
        from kwanzaa_compute.store.hf_git import git_store

        return git_store(url, given)
    parts = urlsplit(url)
    folder = Path(unquote(parts.path))
    on_disk = folder if parts.scheme == "file" else None
    sign = partial(azure.signed_url, url, given) if parts.scheme == "az" else None
    return ObjectStore(url, _backend(url, parts.scheme, folder, given), on_disk, sign)


def require_store_url(url: str) -> None:
    """Raises `UsageError` where a URL cannot be that of a store; asks nobody, echoes no secret."""
    parts = urlsplit(url)
    shown = url.partition("?")[0] if not parts.password else f"{parts.scheme}://..."
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UsageError(
            f"{shown!r} is not a store: its scheme must be one of {known}",
            mend="for a folder on this machine write file:///absolute/path",
        )
    if parts.query or parts.password:
        raise UsageError(
            "a store URL never carries a credential", mend="put it into the environment"
        )
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise UsageError(
            f"{shown!r} is not a store: it names no folder of this machine",
            mend="write file:///absolute/path, with three slashes",
        )
    if parts.scheme not in ("file", "hf") and not parts.netloc:  # the Hub has a form of its own
        raise UsageError(
            f"{shown!r} is not a store: it names no bucket",
            mend=f"write {parts.scheme}://bucket/folder",
        )


def file_sha256(path: Path) -> str:
    """The sha256 (hex) of a local file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _backend(url: str, scheme: str, folder: Path, environment: Mapping[str, str]) -> "ObstoreStore":
    from obstore.store import LocalStore, from_url

    if scheme == "file":
        _private_folder(url, folder)
        return LocalStore(prefix=folder)
    client: ClientConfig = {"timeout": f"{CALL_TIMEOUT_S}s", "connect_timeout": "10s"}
    client |= _roots(environment)
    retry: RetryConfig = {"max_retries": 8, "retry_timeout": timedelta(seconds=RETRY_FOR_S)}
    if scheme == "hf":
        return bucket_store(url, client, retry, environment)
    if scheme == "s3":
        return _s3(url, client, retry, environment)
    if scheme == "az":
        return azure.container_store(url, client, retry, environment)
    return from_url(url, client_options=client, retry_config=retry)


def _roots(environment: Mapping[str, str]) -> "ClientConfig":
    """Certificates to trust beside the usual ones. The process's own are read by the client."""
    file = environment.get("SSL_CERT_FILE", "")
    if not file or file == os.environ.get("SSL_CERT_FILE"):
        return {}
    try:
        return {"root_certificate": Path(file).read_bytes()}
    except OSError as error:
        raise UsageError(
            f"the certificates in {file} cannot be read: {error.strerror}",
            mend="unset SSL_CERT_FILE, or name a PEM file",
        ) from error


def _s3(
    url: str, client: "ClientConfig", retry: "RetryConfig", environment: Mapping[str, str]
) -> "ObstoreStore":
    """With the keys of this environment; where it has none, as the client finds them by itself.

    Keys are handed over whole. One that lacks a session token would be joined with that of this
    process's environment, which belongs to another.
    """
    from obstore.store import S3Store

    if environment.get("AWS_ALLOW_HTTP", "").lower() == "true":
        # With options of ours, the client does not look for this variable by itself.
        client["allow_http"] = True
    config: S3Config = {}
    if region := environment.get("AWS_REGION"):
        config["region"] = region
    if endpoint := environment.get("AWS_ENDPOINT_URL"):
        config["endpoint"] = endpoint
    return S3Store.from_url(
        url,
        config=config,
        client_options=client,
        retry_config=retry,
        credential_provider=_keys_of(environment),
    )


def _keys_of(environment: Mapping[str, str]) -> "Callable[[], S3Credential] | None":
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None
    token = environment.get("AWS_SESSION_TOKEN") or None
    keys: S3Credential = {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token,
        "expires_at": None,
    }
    return lambda: keys


def _private_folder(url: str, folder: Path) -> None:
    try:
        if folder.is_dir():
            return
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the store {url} cannot be created: {error.strerror}", mend="choose another --store"
        ) from error


@lru_cache(maxsize=1024)
def _checked(path: str) -> str:
    """A path that stays inside the store: names come from machines, and machines may lie."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in path:
        raise StoreError(f"{path!r} is not a path inside a store")
    return str(pure)


def relative_paths(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a local folder with its `/`-separated path, sorted; links are refused."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise UsageError(
                f"{path} is a link; a store holds plain files only",
                mend="put a copy of the file in its place: cp -L",
            )
        if path.is_file():
            yield path, path.relative_to(root).as_posix()


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a store names, below a local folder and nowhere else."""
    path = (folder / _checked(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise StoreError(f"{name!r} would leave {folder}")
    return path
