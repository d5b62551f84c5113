"""What a failed call to Azure means to its caller. Pure.

A create was provably in vain where Azure refused it itself (4xx), where the call was never sent,
or where it was one of the calls that come before it. After a server error or a time-out a job may
exist: it is looked for by its name. The SDK goes on asking things after it has made a job, so a
refusal proves something only where it answers one of the calls named here.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.http import (
    NoAnswerError,
    ReplyError,
    StatusError,
    cleaned,
    retry_after_s,
)
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    TransientError,
)
from kwanzaa_compute_azureml.identity import CLIENT, SECRET, TENANT
from kwanzaa_compute_azureml.settings import REGION, WORKSPACE

QUOTAS_PAGE = "https://ml.azure.com/quota"
CLOCK = "set this machine's clock: it differs from Azure's"

_PROVES = re.compile(
    r"(PUT|GET) .*/(datastores|environments|computes|jobs)/[^/]+(/versions/[^/]+)?"
    r"|GET .*/workspaces/[^/]+|(GET|POST) .*/(token|openid-configuration)"
)
"""Calls up to the one that makes a job; what the SDK asks after it is none of these."""
_QUOTA = re.compile(
    r"quota|InvalidQuota|ExceedsCoreQuota|CoresQuota|OperationNotAllowed|cannot accomodate",
    re.IGNORECASE,
)
_CAPACITY = re.compile(
    r"AllocationFailed|OverconstrainedAllocation|OutOfCapacity|InsufficientCapacity"
    r"|SkuNotAvailable|enough capacity|no capacity|NotAvailableForSubscription",
    re.IGNORECASE,
)
_SKEW = re.compile(
    r"not yet valid|not within its valid time range|\bnbf\b|AADSTS700024|too old|SkewedClock",
    re.IGNORECASE,
)
_SIZE = re.compile(r"vm ?size|InvalidVmSize|instance ?type|unsupported size", re.IGNORECASE)
_AADSTS: Mapping[str, str] = {
    "AADSTS7000222": f"the secret in {SECRET} has expired: make a new one",
    "AADSTS7000215": f"{SECRET} is not a secret of the application in {CLIENT}",
    "AADSTS700016": f"{CLIENT} is no application of the tenant in {TENANT}",
    "AADSTS90002": f"{TENANT} is no tenant",
    "authority configuration": f"{TENANT} is no tenant",
    "AADSTS700082": "your sign-in has expired: az login",
}
SERVER_ERROR, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 500, 401, 403, 404, 429


def meaning(error: Exception, now: float) -> ProviderError:
    """What the caller does next; `now` in seconds since the epoch, for dates in `Retry-After`."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, StoreError):
        return _storage(error)
    if isinstance(error, StatusError | NoAnswerError | ReplyError):
        return _plain(error, now)
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ClientAuthenticationError" in names and getattr(error, "status_code", None) is None:
        return _sign_in(error)
    if "HttpResponseError" in names and type(getattr(error, "status_code", None)) is int:
        return _refusal(error, now)
    return _without_an_answer(error, names)


def _refusal(error: Any, now: float) -> ProviderError:
    """An answer of Azure's management, as the SDK raises it."""
    status: int = error.status_code
    said = _said(error)
    words = f"Azure ({status}): {said}"
    request = getattr(getattr(error, "response", None), "request", None)
    asked = f"{getattr(request, 'method', '')} {urlsplit(str(getattr(request, 'url', ''))).path}"
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    after = retry_after_s(str(headers.get("Retry-After", "")), now)
    found = _by_words(status, said, words, after)
    found.nothing_was_created = 400 <= status < SERVER_ERROR and bool(_PROVES.fullmatch(asked))  # noqa: PLR2004 -- HTTP
    return found


def _by_words(status: int, said: str, words: str, after: float | None) -> ProviderError:
    if not 400 <= status < SERVER_ERROR or status in {TOO_MANY, 408}:  # noqa: PLR2004 -- HTTP
        return TransientError(words, retry_after_s=after)
    if _SKEW.search(said):
        return CredentialsError(words, mend=CLOCK)
    if status == UNAUTHORIZED:
        return _sign_in_words(said, words)
    return _how_much(said, words) or _what_was_asked(status, said, words)


def _how_much(said: str, words: str) -> ProviderError | None:
    if _QUOTA.search(said):
        return QuotaError(words, mend=f"ask for more at {QUOTAS_PAGE}: quotas are per region")
    if _CAPACITY.search(said):
        return CapacityError(words)
    return None


def _what_was_asked(status: int, said: str, words: str) -> ProviderError:
    if status == FORBIDDEN:
        mend = "give the caller the role in the README of kwanzaa-compute-azureml"
        return CredentialsError(words, mend=mend)
    if status == NOT_FOUND:
        mend = f"look at {WORKSPACE}: the group, the workspace and the subscription must be yours"
        return InvalidRequestError(words, mend=mend)
    if _SIZE.search(said):
        # Prices are those of virtual machines, of which Azure ML takes some: another may do.
        return CapacityError(words, mend=f"see what {REGION} has: az ml compute list-sizes")
    return InvalidRequestError(words)


def _plain(error: Exception, now: float) -> ProviderError:
    """Of calls that are our own: prices and the run history. None of them makes anything."""
    match error:
        case StatusError():
            found = _by_words(error.status, error.text, f"Azure: {error}", error.retry_after_s(now))
            found.nothing_was_created = True
            return found
        case NoAnswerError():
            return TransientError(f"Azure: {error}", nothing_was_created=not error.sent)
    return TransientError(f"Azure's answer makes no sense: {error}")


def _sign_in(error: Exception) -> ProviderError:
    """What Azure's directory said of who we are, or that it could not be asked."""
    said = cleaned(str(error))
    if "AADSTS" not in said and _was_never_sent(error):
        return TransientError("Azure's sign-in cannot be reached", nothing_was_created=True)
    return _sign_in_words(said, f"Azure: {said}")


def _sign_in_words(said: str, words: str) -> ProviderError:
    mend = next((text for code, text in _AADSTS.items() if code in said), "")
    if _SKEW.search(said):
        mend = CLOCK
    return CredentialsError(
        words, mend=mend or f"az login, or look at {CLIENT} and {SECRET}", nothing_was_created=True
    )


def _storage(error: StoreError) -> ProviderError:
    """The parcel could not be laid into the store: that comes before anything is created."""
    said = f"Azure ML: {error.message}"
    if isinstance(error, StoreDeniedError):
        return CredentialsError(said, mend=error.mend, nothing_was_created=True)
    if isinstance(error, StoreMissingError) or "no bucket or container" in said:
        mend = "make the container, or choose another --store"
        return InvalidRequestError(said, mend=mend, nothing_was_created=True)
    return TransientError(said, mend=error.mend, nothing_was_created=True)


def _without_an_answer(error: Exception, names: set[str]) -> ProviderError:
    """By the SDK's own class, without importing it; its texts may hold an address."""
    name = type(error).__name__
    if "CredentialUnavailableError" in names:
        return CredentialsError(f"Azure: {cleaned(str(error))}", mend="az login")
    if names & {"ServiceRequestError", "ConnectTimeoutError"} and _was_never_sent(error):
        return TransientError(f"Azure cannot be reached: {name}", nothing_was_created=True)
    if names & {"ValidationException", "ValidationError", "UserErrorException", "JobException"}:
        return InvalidRequestError(f"Azure's SDK refuses the request: {cleaned(str(error))}")
    if names & {"AzureError", "MlException", "OSError", "ValueError"}:
        return TransientError(f"Azure: {name}")
    if names & {"KeyError", "TypeError", "AttributeError", "AssertionError"}:
        return InvalidRequestError(f"Azure ML's driver failed: {name}: {cleaned(str(error))}")
    return TransientError(f"Azure ML: {name}")


def _was_never_sent(error: BaseException) -> bool:
    """Whether the connection was never there, by the classes in the chain of causes."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return False
        if type(seen).__name__ in {"NewConnectionError", "NameResolutionError", "ConnectTimeout"}:
            return True
        inner = [arg for arg in seen.args if isinstance(arg, BaseException)]
        reason = getattr(seen, "reason", None)
        deeper = [*inner, reason if isinstance(reason, BaseException) else None]
        seen = next((one for one in deeper if one), None) or seen.__cause__ or seen.__context__
    return False


def _said(error: Any) -> str:
    """Azure's code and words; those inside, where the outer ones say nothing."""
    inner = getattr(error, "error", None)
    code, text = getattr(inner, "code", None), getattr(inner, "message", None)
    words = [str(part) for part in (code, text) if part]
    return cleaned(": ".join(words) or str(getattr(error, "message", "") or error.reason or ""))
