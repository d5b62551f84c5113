"""What a failed call to AWS means to its caller. Pure.

A create was provably in vain where SageMaker refused it by a code of its own (4xx), where the
call was never sent, or where one of the calls that come before it failed. After a server error
or a time-out a job may exist: it is looked for by its name.
"""

from collections.abc import Mapping
from typing import Any

from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute_sagemaker.replies import cleaned
from kwanzaa_compute_sagemaker.settings import ROLE

QUOTAS_PAGE = "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_KEY = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "UnrecognizedClientException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "IncompleteSignature",
        "AuthFailure",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
    }
)
_SKEW = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})
_BUSY = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "PriorRequestNotComplete",
    }
)
_NO_BUCKET = frozenset({"NoSuchBucket", "404"})
_ELSEWHERE = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "301"})
SERVER_ERROR = 500


def meaning(error: Exception) -> ProviderError:
    """What the caller does next."""
    if isinstance(error, ProviderError):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(response.get("Error"), Mapping):
        return _refusal(response)
    return _without_an_answer(error)


def _refusal(response: Mapping[str, Any]) -> ProviderError:
    code, said = _code(response), cleaned(str(response["Error"].get("Message") or ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    words = f"AWS ({code}): {said}" if said else f"AWS: {code}"
    if type(status) is not int or status >= SERVER_ERROR or status < 300:  # noqa: PLR2004 -- HTTP
        return TransientError(words)
    return (
        _who_we_are(code, said, words)
        or _how_much(code, words)
        or _what_was_asked(code, said, words)
    )


def _who_we_are(code: str, said: str, words: str) -> ProviderError | None:
    """Credentials and rights."""
    if code in _SKEW or (code.startswith("InvalidSignature") and "expired" in said.lower()):
        mend = "set this machine's clock: it differs from AWS's by more than five minutes"
    elif code in _EXPIRED:
        mend = "your AWS credentials have expired: sign in again"
    elif code in _UNKNOWN_KEY or code.startswith("InvalidSignature"):
        mend = "AWS does not know these credentials: look at AWS_ACCESS_KEY_ID,"
        mend += " AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
    elif code in _DENIED:
        mend = "give the user the policy in the README of kwanzaa-compute-sagemaker;"
        mend += " a bucket must be your own, or be shared with you"
    elif code == "ValidationException" and "role" in said.lower():
        mend = f"{ROLE} must name a role that SageMaker may assume and that reaches the bucket"
    else:
        return None
    return CredentialsError(words, mend=mend, nothing_was_created=True)


def _how_much(code: str, words: str) -> ProviderError | None:
    """Quotas, rate limits, capacity."""
    if code in {"ResourceLimitExceeded", "ServiceQuotaExceededException", "LimitExceededException"}:
        return QuotaError(
            words, mend=f"ask for a higher quota at {QUOTAS_PAGE}", nothing_was_created=True
        )
    if code in _BUSY:
        return TransientError(words, nothing_was_created=True)
    if code in {"CapacityError", "InsufficientInstanceCapacity"}:
        return CapacityError(words, nothing_was_created=True)
    return None


def _what_was_asked(code: str, said: str, words: str) -> ProviderError:
    mend = ""
    if code in _NO_BUCKET:
        mend = "make the bucket, or choose another --store"
    elif code in _ELSEWHERE or ("bucket" in said.lower() and "region" in said.lower()):
        mend = "the bucket must lie in the region of AWS_REGION"
    elif "instancetype" in said.lower().replace(" ", ""):
        mend = "this region or this version of SageMaker has no such instance type"
    return InvalidRequestError(words, mend=mend, nothing_was_created=True)


def _without_an_answer(error: Exception) -> ProviderError:
    """By the SDK's own class, without importing it; the SDK's texts may hold an address."""
    names = {kind.__name__ for kind in type(error).__mro__}
    name = type(error).__name__
    if names & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}:
        return CredentialsError(
            f"AWS: {name}",
            mend="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            nothing_was_created=True,
        )
    if names & {"TokenRetrievalError", "CredentialRetrievalError", "UnauthorizedSSOTokenError"}:
        return CredentialsError(
            f"AWS: {name}", mend="sign in again: aws sso login", nothing_was_created=True
        )
    if names & {"ParamValidationError", "InvalidRegionError", "NoRegionError", "UnknownKeyError"}:
        return InvalidRequestError(
            f"AWS's SDK refuses the request: {cleaned(str(error))}", nothing_was_created=True
        )
    if names & {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"}:
        return TransientError(
            f"AWS cannot be reached: {name}",
            mend="look at AWS_REGION: a region that does not exist has no address",
            nothing_was_created=True,
        )
    if names & {"BotoCoreError", "HTTPClientError", "OSError", "ValueError"}:
        return TransientError(f"AWS: {name}")
    if names & {"KeyError", "TypeError", "AttributeError", "AssertionError"}:
        return InvalidRequestError(f"SageMaker's driver failed: {name}: {cleaned(str(error))}")
    return TransientError(f"SageMaker: {name}")


def _code(response: Mapping[str, Any]) -> str:
    return cleaned(str(response["Error"].get("Code") or "no code"), 100)


def code_of(error: Exception) -> str:
    """AWS's code for an error; "" where AWS did not answer."""
    response = getattr(error, "response", None)
    known = isinstance(response, Mapping) and isinstance(response.get("Error"), Mapping)
    return _code(response) if known and isinstance(response, Mapping) else ""


def is_unknown_job(error: Exception) -> bool:
    """Whether SageMaker itself says that there is no such job.

    Its model names ResourceNotFound, and the service answers with a ValidationException.
    """
    code = code_of(error)
    said = str(error).lower()
    return code == "ResourceNotFound" or (
        code == "ValidationException" and ("resource not found" in said or "could not find" in said)
    )
