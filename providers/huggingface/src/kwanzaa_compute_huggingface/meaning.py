"""What the Hub's errors mean to the caller."""

import re
from collections.abc import Iterable
from http import HTTPStatus

from kwanzaa_compute.errors import (
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    QuotaError,
    TransientError,
)

TOKENS = "https://huggingface.co/settings/tokens"
BILLING = "https://huggingface.co/settings/billing"
MOST_WORDS = 300
_WRONG = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""What the Hub says of a request that will not be any better the next time."""


class NoTokenError(Exception):
    """There is no token to ask with, in the variable of that name."""

    def __init__(self, variable: str = "HF_TOKEN") -> None:
        super().__init__(variable)
        self.variable = variable


class CannotExpressError(Exception):
    """The run asks for what this provider has no words for; nothing was asked of it."""


class HalfMadeError(Exception):
    """A launch failed after its first part had been made; `__cause__` says how."""


def meaning_of(error: Exception, *, hidden: Iterable[str] = ()) -> ProviderError:
    """The error as the library knows it; texts in `hidden` never appear in its message.

    `nothing_was_created` only where the Hub refused the request itself.
    """
    match error:
        case HalfMadeError():
            cause = error.__cause__
            inner = meaning_of(cause, hidden=hidden) if isinstance(cause, Exception) else None
            # What exists already is found by its name and ended.
            return TransientError(f"a launch was left half made: {inner.message if inner else ''}")
        case NoTokenError(variable=variable):
            return _no_token(variable)
        case CannotExpressError():
            return InvalidRequestError(str(error), nothing_was_created=True)
        case TimeoutError():
            return TransientError("the Hub did not answer in time")
    status = status_of(error)
    words = _clean(_words(error), hidden)
    if status is not None:
        return _by_status(status, words, _retry_after(error))
    return _by_name(error, words)


def status_of(error: object) -> int | None:
    """The HTTP status of an error of huggingface_hub; None where it has none."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_missing(error: Exception) -> bool:
    """Whether the Hub says that there is no such thing.

    huggingface_hub also calls it "not found" where the token was refused (401): that is no word
    about the thing at all.
    """
    return status_of(error) == HTTPStatus.NOT_FOUND


def _by_status(status: int, words: str, retry_after_s: float | None) -> ProviderError:
    said = f"the Hub answers {status}{f': {words}' if words else ''}"
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return CredentialsError(
                f"the Hub refuses the token ({said})",
                mend=f"make a token at {TOKENS}, then export HF_TOKEN=hf_...",
                nothing_was_created=True,
            )
        case HTTPStatus.PAYMENT_REQUIRED:
            return QuotaError(
                f"no credit is left for this ({said})",
                mend=f"add credit or a plan at {BILLING}",
                nothing_was_created=True,
            )
        case HTTPStatus.FORBIDDEN:
            return CredentialsError(
                f"the token may not do this ({said})",
                mend=f"give it the right at {TOKENS}: jobs, and writing to repositories",
                nothing_was_created=True,
            )
        case HTTPStatus.CONFLICT:
            return TransientError(f"it exists already, or somebody is at it ({said})")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return TransientError(said, nothing_was_created=True, retry_after_s=retry_after_s)
        case status if status in _WRONG:
            return InvalidRequestError(said, nothing_was_created=True)
    return TransientError(said, retry_after_s=retry_after_s)


def _by_name(error: Exception, words: str) -> ProviderError:
    """Errors of the client itself, by name: this module imports no SDK."""
    match type(error).__name__:
        case "LocalTokenNotFoundError":
            return _no_token()
        case "OfflineModeIsEnabled":
            return InvalidRequestError(
                "HF_HUB_OFFLINE forbids to ask the Hub",
                mend="unset HF_HUB_OFFLINE",
                nothing_was_created=True,
            )
        case "HFValidationError":
            return InvalidRequestError(words, nothing_was_created=True)
        case name:
            return TransientError(f"{name}: {words}" if words else name)


def _no_token(variable: str = "HF_TOKEN") -> ProviderError:
    return CredentialsError(
        f"there is no Hugging Face token in {variable}",
        mend=f"make one at {TOKENS}, then export {variable}=hf_...",
        nothing_was_created=True,
    )


def _words(error: Exception) -> str:
    said = getattr(error, "server_message", None)
    return str(said) if said else ("" if status_of(error) is not None else str(error))


def _clean(words: str, hidden: Iterable[str]) -> str:
    """One line without what must not be shown: a server may echo what it was sent."""
    for text in hidden:
        if text:
            words = words.replace(text, "***")
    words = re.sub(r"hf_[A-Za-z0-9]{8,}|(?<=Signature=)[^&\s]+", "***", words)
    return " ".join(words.split())[:MOST_WORDS]


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, pattern in (("retry-after", r"\d+(?:\.\d+)?"), ("ratelimit", r"(?<=t=)\d+")):
        found = re.search(pattern, str(headers.get(name, "")))
        if found:
            return float(found.group())
    return None
