"""An adapter's way into a repository of the Hub: file by file, each call under a deadline.

Large files are named by their hash there, so one that has arrived is not sent again: a publish
that was interrupted goes on where it was, and the commit at the end makes all of it visible at
once. They go by git LFS: the newer way (Xet) runs outside of Python, where no deadline reaches it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus

from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.drivers.publication import Publication, Published
from kwanzaa_compute.errors import KwanzaaError, UsageError
from kwanzaa_compute.store.objects import relative_paths
from kwanzaa_compute_huggingface.hub import CALL_S, Hub
from kwanzaa_compute_huggingface.meaning import status_of

SLOWEST_BYTES_S = 100_000
"""A line slower than this is given up."""


@contextmanager
def _by_lfs() -> Iterator[None]:
    """Large files go by git LFS in here."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


class HubPublisher:
    """Publishes as one user of the Hub, by the token in `HF_TOKEN`."""

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody yet."""
        self._hub = Hub(context)

    def __call__(self, publication: Publication, say: Callable[[str], None]) -> Published:
        """Sends what is not there yet; raises `ProviderError`, or `UsageError` where all see it."""
        try:
            with _by_lfs():
                return self._publish(publication, say)
        except KwanzaaError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever the client raises has a meaning
            # Not the client's own words: they may quote what it was sent.
            raise self._hub.classify(error) from None

    def _publish(self, publication: Publication, say: Callable[[str], None]) -> Published:
        from huggingface_hub import CommitOperationAdd, HfApi

        repo = self._make(publication)
        operations = []
        for path, name in relative_paths(publication.folder):
            operations.append(operation := CommitOperationAdd(name, path))
            say(f"  {name}")
            limit_s = CALL_S + path.stat().st_size / SLOWEST_BYTES_S
            send = partial(HfApi.preupload_lfs_files, repo_id=repo, additions=[operation])
            self._hub.call(send, seconds=limit_s)
        commit = self._hub.call(
            lambda api: api.create_commit(repo, operations, commit_message="An adapter"),
            seconds=4 * CALL_S,
        )
        if not publication.private:
            self._hub.call(lambda api: api.update_repo_settings(repo, private=False))
        return Published(f"{self._hub.endpoint}/{repo}", commit.oid)

    def _make(self, publication: Publication) -> str:
        """The repository's whole name; it exists afterwards, and nobody else sees more than before.

        It is made private; only when everything is in it may others see it.
        """
        repo = publication.repo
        if "/" not in repo:
            repo = f"{self._hub.namespace}/{repo}"
        try:
            self._hub.call(lambda api: api.create_repo(repo, private=True))
        except Exception as error:
            if status_of(error) != HTTPStatus.CONFLICT:
                raise
            there = self._hub.call(lambda api: api.model_info(repo))
            if publication.private and not there.private:
                raise UsageError(
                    f"everybody can see {repo}",
                    mend="add --public, or name another repository",
                ) from None
        return repo
