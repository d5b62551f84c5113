"""Machines without runs, and runs without machines: what the clouds say beside the ledger.

Only machines that bear our owner's mark are ever looked at, let alone ended.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from kwanzaa_compute.drivers.contract import Sighting
from kwanzaa_compute.errors import KwanzaaError, MayBeBillingError
from kwanzaa_compute.runs.records import AttemptRecord, AttemptState

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

PAUSE_S = 5.0
PATIENCE_S = 300.0
"""So long, and a settle window, an end may take until it is called unconfirmed."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A machine of ours that may bill, and that no run needs. Text of the provider's, untrusted."""

    provider: str
    machine_id: str
    name: str
    usd_per_hour: Decimal | None
    why: str
    console_url: str

    def __str__(self) -> str:
        """The line that names machine, provider, dollars and console."""
        price = "at an unknown price" if self.usd_per_hour is None else f"${self.usd_per_hour}/h"
        where = self.console_url or "its console"
        return (
            f"machine {self.machine_id} ({self.name}) on {self.provider} may be billing {price}:"
            f" {self.why}; {where}"
        )


@dataclass(frozen=True, slots=True)
class Without:
    """An open run whose machine is not to be seen, or that nobody watches."""

    run_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What does not fit together. `unasked` maps providers to why they could not be asked."""

    strays: tuple[Stray, ...]
    without: tuple[Without, ...]
    unasked: Mapping[str, str]


def find_strays(compute: "Compute") -> Findings:
    """Lists every provider's machines, then holds them against the ledger. Changes nothing.

    In this order: an intent is written before its machine is asked for, so a machine that is
    listed and unknown is no machine that is only just being launched.
    """
    mark = f"kwz-{compute.owner}-"
    listed: dict[str, tuple[Sighting, ...]] = {}
    unasked: dict[str, str] = {}
    for name in compute.catalogue.providers:
        try:
            fleet = compute.provider(name).fleet()
            listed[name] = tuple(s for s in fleet if s.name.startswith(mark))
        except KwanzaaError as error:
            if not _never_used(compute, name):
                unasked[name] = error.message
    strays = [
        stray
        for provider, sightings in listed.items()
        for sighting in sightings
        if (stray := _stray(compute, provider, sighting)) is not None
    ]
    return Findings(tuple(strays), tuple(_without(compute, listed)), unasked)


def _never_used(compute: "Compute", name: str) -> bool:
    """Whether nothing of ours can be there: a simulation, or no credentials and never a launch."""
    info = compute.catalogue.providers[name]
    if info.simulated:
        return name not in compute.ledger.providers()
    lacks = any(not compute.environment.get(variable) for variable in info.environment)
    return lacks and name not in compute.ledger.providers()


def _stray(compute: "Compute", provider: str, sighting: Sighting) -> Stray | None:
    attempt = compute.ledger.attempt_named(sighting.name)
    if attempt is not None and attempt.state is not AttemptState.CLOSED:
        return None
    rate = sighting.usd_per_hour
    if rate is None and attempt is not None:
        rate = attempt.usd_per_hour
    why = (
        "this ledger knows no such run (kwanzaa rebuild may find it in the store)"
        if attempt is None
        else f"attempt {attempt.number} of run {attempt.run_id} was closed"
    )
    console = compute.catalogue.providers[provider].console_url
    return Stray(provider, sighting.machine_id, sighting.name, rate, why, console)


def _without(compute: "Compute", listed: Mapping[str, Sequence[Sighting]]) -> Iterator[Without]:
    ledger = compute.ledger
    names = {provider: {s.name for s in found} for provider, found in listed.items()}
    is_watched = bool(ledger.watchers())
    for attempt in ledger.open_attempts():
        if attempt.provider in names and attempt.name not in names[attempt.provider]:
            yield Without(attempt.run_id, f"{_machine(attempt)} is not to be seen")
    for run_id in ledger.open_runs():
        if not is_watched and ledger.watcher(run_id) is None:
            yield Without(run_id, "nobody watches it")


def _machine(attempt: AttemptRecord) -> str:
    return f"its machine {attempt.machine_id or attempt.name} on {attempt.provider}"


def end_strays(compute: "Compute", strays: Sequence[Stray]) -> None:
    """Ends machines, each until its absence is confirmed by a whole settle window.

    Raises `MayBeBillingError` for those whose end cannot be confirmed, once all were tried.
    """
    unconfirmed = [stray for stray in _asked(compute, strays) if not _is_gone(compute, stray)]
    if unconfirmed:
        raise MayBeBillingError(
            "the end could not be confirmed: " + "; ".join(map(str, unconfirmed)),
            mend="look at the console now; then kwanzaa gc",
        )


def _asked(compute: "Compute", strays: Sequence[Stray]) -> Sequence[Stray]:
    """Asks for the end of all of them, before the first one's end is waited for."""
    for stray in strays:
        _terminate(compute, stray)
    return strays


def _terminate(compute: "Compute", stray: Stray) -> None:
    try:
        compute.provider(stray.provider).terminate(stray.machine_id)
    except KwanzaaError:
        return  # asked again for as long as it is there


def _is_gone(compute: "Compute", stray: Stray) -> bool:
    """Terminates again and again until the machine has been absent for a settle window."""
    clock, provider = compute.clock, compute.provider(stray.provider)
    settle_s = provider.info.settle_s
    until = clock.monotonic() + settle_s + PATIENCE_S
    absent_since: float | None = None
    while True:
        now = clock.monotonic()
        try:
            there = any(s.machine_id == stray.machine_id for s in provider.fleet())
        except KwanzaaError:
            there = None  # an error is never absence, and no proof of presence either
        if there:
            absent_since = None
            _terminate(compute, stray)
        elif there is False:
            absent_since = now if absent_since is None else absent_since
            if now - absent_since >= settle_s:
                return True
        if clock.monotonic() >= until:
            return False
        clock.sleep(PAUSE_S)
