"""`hf://buckets/<namespace>/<bucket>/<folder>`: a Hugging Face storage bucket as a store.

Buckets are mutable and know no commits, so that checkpoints and heartbeats may be written as often
as they come; a git repository of the Hub takes 128 commits an hour. They are spoken to through
their S3 gateway, whose keys are made once, by hand, from a token (`HOW_TO_GET_KEYS`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kwanzaa_compute.errors import CredentialsError, UsageError
from kwanzaa_compute.secret import Secret

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential, S3Store

GATEWAY = "https://s3.hf.co"
ENDPOINT = "HF_S3_ENDPOINT"
"""The variable that names another gateway: one on loopback, say."""
KEY_ID, SECRET_KEY = "HF_S3_ACCESS_KEY_ID", "HF_S3_SECRET_ACCESS_KEY"
HOW_TO_GET_KEYS = (
    "make a fine-grained token that may write to this one bucket at"
    " https://huggingface.co/settings/tokens, choose `Generate S3 credentials` in its menu, then"
    f" export {KEY_ID}=HFAK... {SECRET_KEY}=..."
)
_PARTS = 3


def bucket_store(
    url: str, client: "ClientConfig", retry: "RetryConfig", environment: Mapping[str, str]
) -> "S3Store":
    """The bucket's folder that a URL names, as an obstore store. Asks nobody yet.

    Raises `UsageError` for a URL of another form, `CredentialsError` where there are no keys.
    """
    from obstore.store import S3Store

    namespace, bucket, folder = parts_of(url)
    gateway = environment.get(ENDPOINT) or GATEWAY
    return S3Store(
        bucket,
        prefix=folder or None,
        endpoint=f"{gateway.rstrip('/')}/{namespace}",
        region="us-east-1",
        virtual_hosted_style_request=False,
        # The gateway's documentation says nothing of DeleteObjects.
        disable_bulk_delete=True,
        conditional_put="etag",
        client_options={**client, "allow_http": _on_this_machine(gateway)},
        retry_config=retry,
        credential_provider=_Keys(environment),
    )


def parts_of(url: str) -> tuple[str, str, str]:
    """Namespace, bucket and folder of `hf://buckets/<namespace>/<bucket>/<folder>`."""
    parts = urlsplit(url)
    names = unquote(parts.path).strip("/").split("/", _PARTS - 1)
    if parts.netloc != "buckets" or len(names) < _PARTS - 1 or not all(names):
        raise UsageError(
            f"{url.partition('?')[0]!r} is not a storage bucket",
            mend="write hf://buckets/<your name>/<bucket>; hf buckets create <bucket> --private"
            " makes one",
        )
    return names[0], names[1], names[2] if len(names) == _PARTS else ""


def keys(environment: Mapping[str, str]) -> dict[str, Secret]:
    """The gateway's keys; `CredentialsError` says where they are made."""
    found = {name: environment.get(name, "") for name in (KEY_ID, SECRET_KEY)}
    if not all(found.values()):
        missing = ", ".join(name for name, value in found.items() if not value)
        raise CredentialsError(
            f"a storage bucket needs S3 keys, and {missing} is not set", mend=HOW_TO_GET_KEYS
        )
    return {name: Secret(value) for name, value in found.items()}


class _Keys:
    """Hands the keys to obstore, so that no `AWS_...` variable of the user's goes out with them."""

    config: Mapping[str, str] = {}

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._keys = keys(environment)

    def __call__(self) -> "S3Credential":
        return {
            "access_key_id": self._keys[KEY_ID].reveal(),
            "secret_access_key": self._keys[SECRET_KEY].reveal(),
            "token": None,
            "expires_at": None,
        }


def _on_this_machine(gateway: str) -> bool:
    return urlsplit(gateway).hostname in {"127.0.0.1", "localhost", "::1"}
