"""A lost ledger, rebuilt from the runs' folders in the store and from the clouds' own lists.

What is found comes back with its cap and its costs. A run comes back open only where its machine
may be alive; every other unfinished one comes back stopped, so nothing is launched unasked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwanzaa_compute.errors import KwanzaaError, StoreError, UsageError
from kwanzaa_compute.runs.records import AttemptRecord, AttemptState, RunRecord, RunState, Wish
from kwanzaa_compute.runs.run_file import read_run_json
from kwanzaa_compute.store import RunFolder, Store
from kwanzaa_compute.store.folder import RUN

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

FOUND = "found in the store"
Found = tuple[RunRecord, list[AttemptRecord]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was found: `runs` are not in the ledger yet; `skipped` maps folders to the reason."""

    root: str
    owner: str
    runs: tuple[Found, ...]
    skipped: Mapping[str, str]


def look_for_runs(compute: "Compute") -> Rebuilt:
    """The runs below the store's root that this ledger does not know. Changes nothing.

    Raises `UsageError` where the runs of several owners lie there and none of them is known here.
    """
    root = compute.store_root(None)
    store = compute.open_store(root)
    found: list[Found] = []
    skipped: dict[str, str] = {}
    for folder in store.folders("runs"):
        try:
            found.append(_read(compute, store, root, folder))
        except StoreError as error:
            skipped[folder] = error.message
    owner = compute.known_owner() or _only_owner(found)
    for run, _ in found:
        if run.owner != owner:
            skipped[f"runs/{run.id}"] = f"it is {run.owner}'s"
    known = {run.id for run in compute.ledger.runs()} if compute.has_ledger else set()
    new = [(run, attempts) for run, attempts in found if run.owner == owner and run.id not in known]
    fleets = _names_seen(compute, {a.provider for _, attempts in new for a in attempts})
    runs = tuple(_as_it_stands(run, attempts, fleets) for run, attempts in new)
    return Rebuilt(root, owner, runs, skipped)


def enter(compute: "Compute", rebuilt: Rebuilt) -> None:
    """Enters what was found into the ledger, all of it or nothing."""
    if rebuilt.runs:
        compute.adopt_owner(rebuilt.owner)
        compute.ledger.import_runs(rebuilt.runs)
        for run, _ in rebuilt.runs:
            compute.ledger.note(run.id, "rebuilt", f"{FOUND}: {rebuilt.root}")


def _read(compute: "Compute", store: Store, root: str, folder: str) -> Found:
    run, attempts = read_run_json(store.get(f"{folder}/{RUN}"))
    if f"{root}/{folder}" != run.store_url or folder != f"runs/{run.id}":
        raise StoreError("its run.json is that of another folder")
    if RunFolder(compute.open_store(run.store_url)).done() is not None and not _open(attempts):
        run = replace(run, state=RunState.DONE, reason="the done marker is in the store")
    return run, attempts


def _only_owner(found: Sequence[Found]) -> str:
    owners = sorted({run.owner for run, _ in found})
    if len(owners) > 1:
        raise UsageError(
            f"the store holds runs of {', '.join(owners)}, and this machine has no mark yet",
            mend="say whose they are: KWANZAA_OWNER=... kwanzaa rebuild",
        )
    return owners[0] if owners else ""


def _open(attempts: Sequence[AttemptRecord]) -> list[AttemptRecord]:
    return [a for a in attempts if a.closed_at is None]


def _names_seen(compute: "Compute", providers: set[str]) -> dict[str, set[str] | None]:
    """The machines' names that each provider lists; None where it cannot be asked."""
    seen: dict[str, set[str] | None] = {}
    for name in providers:
        try:
            seen[name] = {sighting.name for sighting in compute.provider(name).fleet()}
        except KwanzaaError:
            seen[name] = None
    return seen


def _as_it_stands(
    run: RunRecord, attempts: list[AttemptRecord], seen: Mapping[str, set[str] | None]
) -> Found:
    """The run as a watcher can take it up: what may be alive is looked for by its name."""
    if run.state is not RunState.RUNNING:
        return run, attempts
    unsure = _open(attempts)
    uncertain = [
        replace(a, state=AttemptState.INTENDED, machine_id="", ending=None, ending_at=None)
        if a in unsure
        else a
        for a in attempts
    ]
    if not unsure:
        reason = f"{FOUND}, unfinished"
        return replace(run, state=RunState.STOPPED, wish=Wish.STOP, reason=reason), attempts
    listed = seen[unsure[-1].provider]
    may_live = listed is None or unsure[-1].name in listed
    return replace(run, wish=run.wish if may_live else Wish.STOP), uncertain
