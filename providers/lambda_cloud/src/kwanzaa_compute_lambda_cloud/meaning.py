"""What Lambda's errors mean to the caller. A launch that failed is ambiguous unless proven not."""

import re

from kwanzaa_compute.drivers.http import HttpFailure, NoAnswerError, StatusError, cleaned
from kwanzaa_compute.errors import (
    CapacityError,
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)
from kwanzaa_compute_lambda_cloud.limits import TooBusyError
from kwanzaa_compute_lambda_cloud.user_data import UnsendableJobError

SOLD_OUT = "instance-operations/launch/insufficient-capacity"
_INVALID = frozenset(
    {
        "global/invalid-parameters",
        "global/not-found",
        "global/duplicate",
        "instance-operations/launch/file-system-in-wrong-region",
    }
)
_CODE = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)+")
_TOO_MANY = 429


class SoldOutError(Exception):
    """The offer named no region: there was none when it was made."""


class NotAskedError(Exception):
    """Something failed before the launch was asked for, so no machine was created. `error` did."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"nothing was launched: {type(error).__name__}")
        self.error = error


def error_code(error: StatusError) -> str:
    """Lambda's own code for what went wrong; "" where the answer is not Lambda's (a proxy's)."""
    body = error.json()
    said = body.get("error") if isinstance(body, dict) else None
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def meaning(error: Exception, now: float) -> ProviderError:
    """What the caller does next; `now` (epoch seconds) is for a `Retry-After` that is a date."""
    match error:
        case NotAskedError():
            return _certain(meaning(error.error, now))
        case ProviderError():
            return error
        case StatusError():
            return _refusal(error, now)
        case NoAnswerError():
            return TransientError(f"Lambda: {error}", nothing_was_created=not error.sent)
        case HttpFailure():
            return TransientError(f"Lambda: {error}")
        case _:
            return _of_this_side(error)


def _of_this_side(error: Exception) -> ProviderError:
    """What went wrong before anything was sent, or while an answer was understood."""
    match error:
        case TooBusyError():
            return TransientError(str(error), retry_after_s=error.wait_s)
        case SoldOutError():
            return CapacityError(str(error))
        case UnsendableJobError():
            return InvalidRequestError(str(error))
        case OSError():
            return TransientError(f"this computer could not do it: {type(error).__name__}")
        case _:
            return TransientError(f"{type(error).__name__} while asking Lambda")


def _refusal(error: StatusError, now: float) -> ProviderError:
    code, text = error_code(error), _words(error)
    # What comes from beyond Lambda's API, or from something before it, proves nothing.
    proven = 400 <= error.status < 500 and bool(code) and not code.startswith("provider/")  # noqa: PLR2004 -- as HTTP has it
    if code in (SOLD_OUT, "global/object-does-not-exist"):  # ... or no longer sold
        return CapacityError(text, nothing_was_created=proven)
    if code == "global/quota-exceeded":
        mend = "ask Lambda for a higher quota, or end a machine"
        return QuotaError(text, mend=mend, nothing_was_created=proven)
    if error.status == 401:  # noqa: PLR2004 -- as HTTP has it
        mend = "make a key at https://cloud.lambda.ai/api-keys; export LAMBDA_API_KEY=..."
        return CredentialsError(text, mend=mend, nothing_was_created=proven)
    if error.status == 403:  # noqa: PLR2004 -- as HTTP has it
        mend = "look at your account: https://cloud.lambda.ai"
        return QuotaError(text, mend=mend, nothing_was_created=proven)
    if error.status == _TOO_MANY:
        wait_s = error.retry_after_s(now)
        return TransientError(text, retry_after_s=wait_s, nothing_was_created=proven)
    if code in _INVALID and proven:
        return InvalidRequestError(text, nothing_was_created=True)
    return TransientError(text)


def _words(error: StatusError) -> str:
    """Status and Lambda's own words, for people."""
    body = error.json()
    said = body.get("error") if isinstance(body, dict) else None
    words = [said.get(part) for part in ("code", "message")] if isinstance(said, dict) else []
    text = ": ".join(word for word in words if isinstance(word, str)) or error.text
    return cleaned(f"Lambda answered {error.status}: {text}", 240)


def _certain(error: ProviderError) -> ProviderError:
    error.nothing_was_created = True
    return error
