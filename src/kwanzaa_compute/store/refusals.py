"""What the exceptions of obstore and of the disk mean, without a URL that may be signed."""

import re

from kwanzaa_compute.errors import (
    StoreDeniedError,
    StoreError,
    StoreExistsError,
    StoreMissingError,
)

_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
"""The word that S3 and Azure give as their reason. Nothing else of their text is repeated."""
_STATUS = re.compile(r"status code: (\d{3})\b")
"""A list that is refused has no exception of its own."""
DENIED = frozenset({"401", "403"})
NO_ROOT = frozenset({"ContainerNotFound", "NoSuchBucket", "ContainerBeingDeleted"})

_MEND_ROOT = "create it, or choose another --store"


class errors_of:  # noqa: N801 -- reads as a function: `with errors_of(url, path):`
    """Turns exceptions into ours, for a call about `path` in the store at `url`."""

    def __init__(self, url: str, path: str) -> None:
        self._url = url
        self._where = f"{path or '/'} in {url}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        from obstore import exceptions

        if isinstance(error, OSError | exceptions.BaseError):
            raise self._meaning(error) from None

    def _meaning(self, error: Exception) -> StoreError:
        from obstore import exceptions

        code, status = _found(_CODE, error), _found(_STATUS, error)
        if code in NO_ROOT:
            # Not "missing": an error is never absence.
            return StoreError(f"there is no bucket or container for {self._url}", mend=_MEND_ROOT)
        said = f" ({code})" if code else ""
        match error:
            case FileNotFoundError() | exceptions.NotFoundError():
                return StoreMissingError(f"there is no {self._where}")
            case FileExistsError() | exceptions.AlreadyExistsError():
                return StoreExistsError(f"there already is a {self._where}")
            case PermissionError():
                return StoreError(f"no permission for {self._where}")
            case exceptions.PermissionDeniedError():
                return StoreDeniedError(f"no permission for {self._where}{said}")
            case exceptions.UnauthenticatedError():
                return StoreDeniedError(f"not signed in for {self._where}{said}")
            case exceptions.BaseError() if status in DENIED:
                return StoreDeniedError(f"no permission for {self._where}{said}")
        # The original text may hold a signed URL; its class is enough to go by.
        reason = code or getattr(error, "strerror", None) or type(error).__name__
        return StoreError(f"the store failed at {self._where}: {reason}")


def _found(pattern: re.Pattern[str], error: Exception) -> str:
    match = pattern.search(str(error))
    return match[1] if match else ""
