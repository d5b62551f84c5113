"""A Space as a machine: made, seen, ended. What Spaces and AutoTrain have in common."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.secret import Secret
from kwanzaa_compute_huggingface.hub import OURS, Hub
from kwanzaa_compute_huggingface.meaning import (
    HalfMadeError,
    is_missing,
    status_of,
)

if TYPE_CHECKING:
    from huggingface_hub import SpaceHardware, SpaceRuntime

PHASES: Mapping[str, Phase] = {
    "NO_APP_FILE": Phase.STARTING,
    "BUILDING": Phase.STARTING,
    "APP_STARTING": Phase.STARTING,
    "RUNNING": Phase.RUNNING,
    "RUNNING_BUILDING": Phase.RUNNING,
    "RUNNING_APP_STARTING": Phase.RUNNING,
    "BUILD_ERROR": Phase.EXITED,
    "CONFIG_ERROR": Phase.EXITED,
    "RUNTIME_ERROR": Phase.EXITED,
    "PAUSED": Phase.EXITED,
    "SLEEPING": Phase.EXITED,
    "STOPPED": Phase.EXITED,
    "DELETING": Phase.STOPPING,
}
"""A stage that is not listed may bill: it counts as RUNNING."""
COSTS_NOTHING = frozenset(
    {"NO_APP_FILE", "BUILDING", "BUILD_ERROR", "CONFIG_ERROR", "PAUSED", "SLEEPING", "STOPPED"}
)
REFUSED_PAUSE = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.CONFLICT,
    }
)
"""A Space that cannot be paused can still be deleted."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}")
_EXIT_CODE = re.compile(r"exit code:?\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Space that is to be: what it runs on, what it holds, and what it is told."""

    flavour: str
    sleep_s: int
    """Seconds after its last visitor at which the Hub puts it to sleep: nobody ever visits it."""
    files: Mapping[str, bytes]
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)


class SpaceMachines:
    """The Spaces of one account that `mine` says are ours. A machine's id is its repository's."""

    def __init__(self, hub: Hub, mine: Callable[[str], str]) -> None:
        """`mine` gives the name stamped on a Space from that of its repository; "": not ours."""
        self._hub, self._mine = hub, mine

    def make(self, repository: str, wanted: Wanted) -> str:
        """Creates a private Docker Space and returns its id; raises `HalfMadeError` in between.

        Its hardware, sleep time and secrets are there before its files are, so there is no moment
        at which it runs without its limits.
        """
        space = f"{self._hub.namespace}/{repository}"
        self._hub.call(
            lambda api: api.create_repo(
                space,
                repo_type="space",
                private=True,
                space_sdk="docker",
                # The SDK lists the flavours of its day; the Hub takes those of today.
                space_hardware=cast("SpaceHardware", wanted.flavour),
                space_sleep_time=wanted.sleep_s,
                space_secrets=[
                    {"key": key, "value": secret.reveal()} for key, secret in wanted.secrets.items()
                ],
                space_variables=[
                    {"key": key, "value": value} for key, value in wanted.variables.items()
                ],
            )
        )
        try:
            self._fill(space, wanted.files)
        except Exception as error:
            raise HalfMadeError(space) from error
        return space

    def inspect(self, space: str) -> Sighting:
        """What one Space is doing; GONE where there is none."""
        if not _ID.fullmatch(space):
            return Sighting(space, Phase.GONE)
        try:
            runtime = self._hub.call(lambda api: api.get_space_runtime(space))
        except Exception as error:
            if is_missing(error):
                return Sighting(space, Phase.GONE)
            raise
        return self._sighting(space, runtime)

    def fleet(self) -> Iterable[Sighting]:
        """Every Space of ours. The Space's own page is never asked: that would keep it awake."""
        namespace = self._hub.namespace
        listed = self._hub.call(
            lambda api: list(api.list_spaces(author=namespace, expand=["runtime"]))
        )
        for item in listed:
            if self._mine(item.id.partition("/")[2]):
                yield (
                    self.inspect(item.id)
                    if item.runtime is None
                    else self._sighting(item.id, item.runtime)
                )

    def end(self, space: str) -> None:
        """Pauses a Space, which ends its billing, and deletes it, its secrets included."""
        if not _ID.fullmatch(space) or not self._mine(space.partition("/")[2]):
            return
        try:
            self._hub.call(lambda api: api.pause_space(space))
        except Exception as error:
            if is_missing(error):
                return
            if status_of(error) not in REFUSED_PAUSE:
                raise
        try:
            self._hub.call(lambda api: api.delete_repo(space, repo_type="space"))
        except Exception as error:
            if not is_missing(error):
                raise

    def logs(self, space: str) -> Iterable[str]:
        """What the Space's process has printed; where its image was not built, why."""
        if not _ID.fullmatch(space):
            return []
        stage = str(self._hub.call(lambda api: api.get_space_runtime(space)).stage)
        build = stage in {"BUILDING", "BUILD_ERROR"}
        return self._hub.lines(lambda api: api.fetch_space_logs(space, build=build))

    def _fill(self, space: str, files: Mapping[str, bytes]) -> None:
        from huggingface_hub import CommitOperationAdd

        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        self._hub.call(
            lambda api: api.create_commit(
                space, operations, commit_message="The run's page", repo_type="space"
            )
        )

    def _sighting(self, space: str, runtime: "SpaceRuntime") -> Sighting:
        stage = str(runtime.stage)
        said = str(runtime.raw.get("errorMessage") or "")
        code = _EXIT_CODE.search(said) if stage == "RUNTIME_ERROR" else None
        return Sighting(
            space,
            PHASES.get(stage, Phase.RUNNING),
            self._mine(space.partition("/")[2]),
            exit_code=int(code.group(1)) if code else None,
            usd_per_hour=Decimal(0) if stage in COSTS_NOTHING else None,
            detail=f"{stage} {said}".strip(),
        )


def own_name(repository: str) -> str:
    """The name of ours that a Space's repository bears; "" where it is somebody else's."""
    return repository if OURS.fullmatch(repository) else ""
