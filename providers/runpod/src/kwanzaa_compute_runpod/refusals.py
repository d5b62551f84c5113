"""What a failed call to RunPod means to its caller. Pure.

| answer | of a create | of anything else |
|---|---|---|
| 400 that names a rule | our bug or a bad config: never again | the same |
| 400 that names a balance or a limit | no more of this provider | the same |
| any other 400 | the next offer: RunPod has no code for "sold out", only words | our bug |
| 401 | mend the key | the same |
| 402 | no more of this provider | the same |
| 403 that names a pool or place | the next offer | mend the key's permissions |
| any other 403 | mend the key's permissions | the same |
| 404, 422 | our bug or a bad config: never again | the same |
| 429 | wait as long as it says | the same |
| 5xx, none, one that makes no sense | **a machine may exist**: look for it by name | try again |

A create was provably in vain where RunPod refused it (4xx), or where not one byte of it was sent.
RunPod's own page advises to repeat a create after a 5xx. It has no idempotency key, and creates
that answered 500 have made machines that billed: so we never do.
"""

from typing import Any

from kwanzaa_compute.drivers.http import NoAnswerError, ReplyError, StatusError, cleaned
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)

KEYS_PAGE = "https://console.runpod.io/user/settings"
BILLING_PAGE = "https://console.runpod.io/user/billing"
CREATE = "POST /v2/pods"

_CAPACITY = (
    "no longer any instances",
    "no instances",
    "instances currently available",
    "does not have the resources",
    "could not find any pods",
    "not enough free gpus",
    "no capacity",
    "out of capacity",
    "out of stock",
    "unavailable",
)
"""Seen in the wild, in small letters."""
_MONEY = ("balance", "spend limit", "spending limit", "insufficient funds", "quota", "payment")
_RULES = (
    "mutually exclusive",
    "must be",
    "must not",
    "is required",
    "required field",
    "missing required",
    "invalid",
    "is not allowed",
    "not supported",
    "unsupported",
    "exactly one of",
    "template id or pod configuration",
    "malformed",
)
_PLACES = ("pool", "data center", "datacenter", "region", "gpu type", "community", "secure")


def meaning(error: Exception, now: float) -> ProviderError:
    """What the caller does next; `now` in seconds since the epoch, for dates in `Retry-After`."""
    match error:
        case ProviderError():
            return error
        case StatusError():
            return _refusal(error, now)
        case NoAnswerError():
            return TransientError(f"RunPod: {error}", nothing_was_created=not error.sent)
        case ReplyError():
            return TransientError(f"RunPod's answer makes no sense: {error}")
        case OSError() | ValueError():
            return TransientError(f"RunPod: {type(error).__name__}")
        case _:
            return InvalidRequestError(f"RunPod's driver failed: {type(error).__name__}: {error}")


def _refusal(error: StatusError, now: float) -> ProviderError:
    words = f"RunPod ({error.call}, {error.status}): {detail(error)}"
    match error.status:
        case 400:
            return _rule_or_capacity(error, words)
        case 401:
            return CredentialsError(
                words, mend=f"RUNPOD_API_KEY: {KEYS_PAGE}", nothing_was_created=True
            )
        case 402:
            return QuotaError(words, mend=f"add credit at {BILLING_PAGE}", nothing_was_created=True)
        case 403:
            return _forbidden(error, words)
        case 404 | 405 | 413 | 422:
            return InvalidRequestError(words, nothing_was_created=True)
        case 429:
            return TransientError(
                words, nothing_was_created=True, retry_after_s=error.retry_after_s(now)
            )
        case _:
            return TransientError(words, retry_after_s=error.retry_after_s(now))


def _rule_or_capacity(error: StatusError, words: str) -> ProviderError:
    said = detail(error).lower()
    if any(word in said for word in _CAPACITY):
        return CapacityError(words, nothing_was_created=True)
    if any(word in said for word in _MONEY):
        return QuotaError(words, mend=f"see {BILLING_PAGE}", nothing_was_created=True)
    if error.call != CREATE or any(word in said for word in _RULES):
        return InvalidRequestError(words, nothing_was_created=True)
    return CapacityError(words, nothing_was_created=True)


def _forbidden(error: StatusError, words: str) -> ProviderError:
    said = detail(error).lower()
    if error.call == CREATE and any(word in said for word in _PLACES):
        return CapacityError(words, nothing_was_created=True)
    return CredentialsError(
        words,
        mend=f"give the key of RUNPOD_API_KEY read and write access to pods: {KEYS_PAGE}",
        nothing_was_created=True,
    )


def detail(error: StatusError) -> str:
    """RunPod's own words, as far as its answer holds any; else the answer's beginning."""
    body = error.json()
    if not isinstance(body, dict):
        return error.text
    said: Any = body.get("detail") or body.get("error") or body.get("title") or ""
    listed = body.get("errors")
    more = [str(one) for one in listed] if isinstance(listed, list) else []
    return cleaned("; ".join([str(said), *more])) or error.text
