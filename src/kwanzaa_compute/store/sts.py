"""Temporary keys to one folder of an S3 bucket, from AWS STS, over the standard library alone.

`GetFederationToken` for a user's long-lived key, `AssumeRole` where `KWANZAA_STORE_ROLE_ARN`
names a role. Either way a session policy narrows the right to the folder. One request, signed
with Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html).
"""

import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

from kwanzaa_compute.errors import CredentialsError, StoreError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store.grants import StoreGrant

TIMEOUT_S = 20
MOST_SECONDS = 12 * 3600
_OBJECT_ACTIONS = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


@dataclass(frozen=True, slots=True)
class Key:
    """The user's own key, that the right is made with. Never shown."""

    id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


def grant(store_url: str, environment: Mapping[str, str], hours: float, now: float) -> StoreGrant:
    """Keys that reach `store_url` (`s3://bucket/folder`) and nothing else, for so many hours.

    Raises `CredentialsError` where AWS refuses, or where there is no key of the user's to begin
    with; `StoreError` where it cannot be asked.
    """
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise CredentialsError(
            "a right to the store cannot be made without AWS credentials",
            mend="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    asked = _request(store_url, environment, min(MOST_SECONDS, int(hours * 3600)))
    answer = _ask(
        asked, environment, Key(key, secret, environment.get("AWS_SESSION_TOKEN", "")), now
    )
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in answer.iter()}
    return StoreGrant(
        secrets={
            "AWS_ACCESS_KEY_ID": Secret(found["AccessKeyId"]),
            "AWS_SECRET_ACCESS_KEY": Secret(found["SecretAccessKey"]),
            "AWS_SESSION_TOKEN": Secret(found["SessionToken"]),
        }
    )


def folder_policy(store_url: str) -> dict[str, object]:
    """The session policy for one folder of a bucket: its objects, and listing them."""
    parts = urlsplit(store_url)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    below = f"{prefix}/*" if prefix else "*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": _OBJECT_ACTIONS,
                "Resource": f"arn:aws:s3:::{bucket}/{below}",
            },
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": f"arn:aws:s3:::{bucket}",
                "Condition": {"StringLike": {"s3:prefix": [prefix, below]}},
            },
        ],
    }


def _request(store_url: str, environment: Mapping[str, str], seconds: int) -> dict[str, str]:
    name = "kwanzaa-" + hashlib.sha256(store_url.encode()).hexdigest()[:20]
    asked = {
        "Version": "2011-06-15",
        "DurationSeconds": str(max(900, seconds)),
        "Policy": json.dumps(folder_policy(store_url), separators=(",", ":")),
    }
    role = environment.get("KWANZAA_STORE_ROLE_ARN")
    if role:
        return {**asked, "Action": "AssumeRole", "RoleArn": role, "RoleSessionName": name}
    if environment.get("AWS_SESSION_TOKEN"):
        raise CredentialsError(
            "temporary AWS credentials cannot be narrowed further without a role",
            mend="set KWANZAA_STORE_ROLE_ARN to a role that may use the bucket, or"
            " KWANZAA_STORE_KEY_ID and KWANZAA_STORE_SECRET_KEY to a key limited to the folder",
        )
    return {**asked, "Action": "GetFederationToken", "Name": name}


def _ask(
    asked: Mapping[str, str], environment: Mapping[str, str], key: Key, now: float
) -> ET.Element:
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = (
        environment.get("AWS_ENDPOINT_URL_STS")
        or environment.get("AWS_ENDPOINT_URL")
        or f"https://sts.{region}.amazonaws.com"
    )
    body = urlencode(asked).encode()
    headers = _signed(endpoint, body, region, key, now)
    request = urllib.request.Request(f"{endpoint.rstrip('/')}/", body, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return ET.fromstring(answer.read())  # noqa: S314 -- AWS's own answer over TLS
    except urllib.error.HTTPError as error:
        raise CredentialsError(
            f"AWS refuses a temporary right to the store: {_words(error.read())}",
            mend="the key needs sts:GetFederationToken (or a KWANZAA_STORE_ROLE_ARN that it may"
            " assume) and S3 rights on the folder",
        ) from None
    except (OSError, ET.ParseError) as error:
        raise StoreError(f"AWS STS cannot be asked: {type(error).__name__}") from None


def _words(body: bytes) -> str:
    try:
        found = {e.tag.rpartition("}")[2]: e.text or "" for e in ET.fromstring(body).iter()}  # noqa: S314
    except ET.ParseError:
        return "no reason given"
    return found.get("Code") or "no reason given"


def _signed(endpoint: str, body: bytes, region: str, key: Key, now: float) -> dict[str, str]:
    """The headers of a POST to `/`, with its signature."""
    at = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": urlsplit(endpoint).netloc,
        "x-amz-date": at,
        **({"x-amz-security-token": key.token} if key.token else {}),
    }
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{at[:8]}/{region}/sts/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"
    chained = f"AWS4{key.secret}".encode()
    for part in (at[:8], region, "sts", "aws4_request"):
        chained = hmac.digest(chained, part.encode(), "sha256")
    signature = hmac.digest(chained, to_sign.encode(), "sha256").hex()
    credential = f"Credential={key.id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": f"AWS4-HMAC-SHA256 {credential}"}
