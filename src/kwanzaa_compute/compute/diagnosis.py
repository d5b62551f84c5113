"""What may be wrong with this machine and its runs, and what mends it. Changes nothing."""

import platform
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute.channels import COMMAND, WEBHOOK, Message, channels_in
from kwanzaa_compute.compute.checks import (
    Check,
    State,
    disk,
    failed,
    passed,
    unwritable,
    warned,
)
from kwanzaa_compute.compute.strays import Findings, find_strays
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.errors import CredentialsError, KwanzaaError, UsageError
from kwanzaa_compute.store.grants import grant_hours

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

LEAST_PYTHON = (3, 11)
FLOORS = {"torch": (2, 10), "transformers": (5, 5), "huggingface_hub": (1, 31)}
"""Versions below these are not to be trained with: they have known holes, or we never tried."""
MOST_AHEAD_S = 300.0
ANY_BUCKET = "hf://buckets/any/any"


def diagnose(compute: "Compute", *, notify: bool = False) -> list[Check]:
    """Every point of the examination. Never creates a ledger, never shows a credential.

    With `notify` a test message goes through every channel for notifications that is set.
    """
    return [
        *_versions(),
        *_packages(compute),
        *(_credentials(compute, info) for info in compute.catalogue.providers.values()),
        *_bucket_keys(compute),
        _home(compute),
        disk(compute.home),
        *_ledger(compute),
        *_orphans(compute),
        *_channels(compute, notify=notify),
    ]


def _versions() -> Iterator[Check]:
    here = platform.python_version()
    if sys.version_info >= LEAST_PYTHON:
        yield passed("Python", here)
    else:
        yield Check("Python", State.FAIL, f"{here} is too old", "install Python 3.11 or newer", 1)
    yield from (below_floor(name, floor, _installed(name)) for name, floor in FLOORS.items())
    ours, trainer = _installed("kwanzaa-compute"), _installed("kwanzaa-trainer")
    if trainer and trainer != ours:
        mend = f'pip install "kwanzaa-compute[local]=={ours}"'
        yield Check("versions", State.FAIL, f"core {ours}, trainer {trainer}", mend, 1)
    else:
        yield passed("versions", f"core {ours}, trainer {trainer or 'not installed here'}")


def below_floor(name: str, floor: tuple[int, ...], found: str) -> Check:
    """Whether the version `found` ("": not installed) is at least `floor`."""
    if not found:
        mend = 'to train on this machine: pip install "kwanzaa-compute[local]"'
        return warned(name, "not installed", mend)
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[: len(floor)])
    if numbers >= floor:
        return passed(name, found)
    least = ".".join(map(str, floor))
    mend = f'pip install --upgrade "{name}>={least}"'
    return Check(name, State.FAIL, f"{found} is below {least}", mend, 1)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _packages(compute: "Compute") -> Iterator[Check]:
    for name, reason in compute.catalogue.broken.items():
        mend = f"pip install --upgrade {name}, or pip uninstall {name}"
        yield Check("driver package", State.FAIL, f"{name} cannot be used: {reason}", mend, 1)
    names = ", ".join(compute.catalogue.providers)
    yield passed("providers", f"installed: {names}")


def _credentials(compute: "Compute", info: ProviderInfo) -> Check:
    what = f"credentials of {info.name}"
    missing = [name for name in info.environment if not compute.environment.get(name)]
    if missing:
        names = " ".join(f"{name}=..." for name in missing)
        return warned(what, f"{', '.join(missing)} not set", f"export {names}")
    return passed(what, "found" if info.environment else "none needed")


def _bucket_keys(compute: "Compute") -> Iterator[Check]:
    """A Hugging Face token is not enough for a storage bucket: it takes one more click, once."""
    root = compute.store_root(None)
    chosen = root.startswith("hf://")
    if not chosen and not compute.environment.get("HF_TOKEN"):
        return
    what = f"store {root}" if chosen else "hf:// stores"
    try:
        where = root if chosen else ANY_BUCKET
        grant_hours(where, compute.environment, now=compute.clock.now())
    except CredentialsError as error:
        yield failed(what, error) if chosen else warned(what, error.message, error.mend)
    else:
        yield passed(what, "its key is found")


def _home(compute: "Compute") -> Check:
    why = unwritable(compute.home)
    if not why and compute.home.exists() and not compute.home.is_dir():
        why = "it is a file"
    if why:
        mend = "set KWANZAA_HOME to a folder that can be written"
        return Check("home", State.FAIL, f"{compute.home}: {why}", mend, 2)
    return passed("home", f"{compute.home} can be written")


def _ledger(compute: "Compute") -> Iterator[Check]:
    path = compute.home / "ledger.sqlite"
    if not path.is_file():
        yield passed("ledger", "none yet")
        return
    mend = f"move {path} away, and look at your providers' consoles for machines that bill"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            said = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
            newest = _newest(database)
    except sqlite3.Error as error:
        yield Check("ledger", State.FAIL, f"{path} cannot be read: {error}", mend, 1)
        return
    if said != ["ok"]:
        yield Check("ledger", State.FAIL, f"{path} is damaged: {'; '.join(said)}", mend, 1)
        return
    yield passed("ledger", f"{path} is sound")
    yield _clock(compute.clock.now(), newest)


def _newest(database: sqlite3.Connection) -> float:
    query = (
        "SELECT max((SELECT ifnull(max(created_at), 0) FROM runs),"
        " (SELECT ifnull(max(at), 0) FROM events))"
    )
    return float(database.execute(query).fetchone()[0])


def _clock(now: float, newest: float) -> Check:
    if newest > now + MOST_AHEAD_S:
        found = f"it is {iso(now)}, and the ledger speaks of {iso(newest)}"
        return Check("clock", State.FAIL, found, "set this machine's clock (timedatectl)", 1)
    return passed("clock", f"{iso(now)}; nothing in the ledger is later")


def _orphans(compute: "Compute") -> Iterator[Check]:
    """Machines that bear our owner's name and belong to no open attempt of the ledger."""
    owner = compute.home / "owner"
    if not owner.is_file():
        yield passed("orphans", "nothing was ever launched from here")
        return
    try:
        found = find_strays(compute)
    except (KwanzaaError, OSError, sqlite3.Error):
        yield warned("orphans", "not looked for: the ledger cannot be read", "mend the ledger")
        return
    for info in compute.catalogue.providers.values():
        if info.name in found.unasked or all(map(compute.environment.get, info.environment)):
            yield _orphans_of(info, found)


def _orphans_of(info: ProviderInfo, found: Findings) -> Check:
    what = f"orphans on {info.name}"
    if info.name in found.unasked:
        return warned(what, f"could not be asked: {found.unasked[info.name]}", "try again")
    strays = sorted({s.name for s in found.strays if s.provider == info.name})
    if not strays:
        return passed(what, "none")
    where = info.console_url or f"the console of {info.name}"
    said = f"{', '.join(strays)} belong to no open run and may bill"
    return Check(what, State.FAIL, said, f"kwanzaa gc --end ends them; {where}", 6)


def _channels(compute: "Compute", *, notify: bool) -> Iterator[Check]:
    """The ways to tell somebody what happens to runs; with `notify` each one is tried."""
    try:
        channels = channels_in(compute.environment)
    except UsageError as error:
        yield failed("notifications", error)
        return
    if not channels:
        yield passed("notifications", f"none; {WEBHOOK} or {COMMAND} would set some")
    test = {"schema": 1, "event": "test", "run": "", "state": "", "usd": "0"}
    for channel in channels:
        what = f"notifications by {channel.name}"
        if not notify:
            yield passed(what, "set; kwanzaa doctor --notify sends a test message")
            continue
        failure = channel.tell(Message("kwanzaa doctor: a test message", test))
        mend = f"look at {WEBHOOK if channel.name == 'webhook' else COMMAND}"
        yield warned(what, failure, mend) if failure else passed(what, "a test message was taken")
