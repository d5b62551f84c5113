"""What a driver package implements: six synchronous methods that raise raw errors.

A driver speaks one provider's language and decides nothing. Whatever is the same for all
providers (retries, deadlines, wrapping of errors, launching once, terminating until confirmed)
is written once, in `kwanzaa_compute.drivers.provider` and `kwanzaa_compute.runs`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret


class Feature(StrEnum):
    """What a driver may claim. Each claim is checked by the conformance suite."""

    UNATTENDED = "unattended"
    """Runs with nobody at a keyboard."""
    CUSTOM_CODE = "custom-code"
    """Runs our trainer, not one of its own."""
    SPOT = "spot"
    """Sells machines that it may take back."""
    LOGS = "logs"
    """Implements `logs(id)`."""
    SSH = "ssh"
    """Implements `ssh(id)`."""
    SHARES_FILES = "shares-files"
    """Its machines see this machine's files, so that a `file://` store reaches them."""
    STORE_ROLE = "store-role"
    """Its machines have a right of their own to the store, such as an execution role."""


class Deadline(StrEnum):
    """What truly stops the billing when every watcher has died."""

    BY_PROVIDER = "provider"
    BY_MACHINE = "machine"
    BY_WATCHER = "watcher"


class Phase(StrEnum):
    """What a machine is doing, in the provider's eyes."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    """Its command has ended; the machine may still exist and bill."""
    PREEMPTED = "preempted"
    GONE = "gone"
    """The provider does not know it (any more): evidence of absence, not yet proof."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the provider last said of one machine."""

    machine_id: str
    phase: Phase
    name: str = ""
    exit_code: int | None = None
    usd_per_hour: Decimal | None = None
    """What it bills at this moment (a stopped machine's disk bills too); None: as was quoted."""
    region: str = ""
    detail: str = ""
    """The provider's own words, for people. Untrusted text."""

    @property
    def may_bill(self) -> bool:
        """Whether this machine may still cost money: everything but GONE may."""
        return self.phase is not Phase.GONE


@dataclass(frozen=True, slots=True)
class Job:
    """What a machine is told to do. `argv` never holds a secret; `secrets` become environment."""

    name: str
    argv: tuple[str, ...]
    store_url: str
    max_hours: float
    image: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    disk_gib: float = 20.0


class Driver(Protocol):
    """One provider's language. Built with its environment, clock and endpoint passed in.

    No method waits for a machine to change, and none retries. Errors are the raw ones of the
    SDK or HTTP client; `classify` says what they mean.
    """

    features: frozenset[Feature]

    def offers(self) -> Iterable[Offer]:
        """Everything for sale now, unfiltered, each with its price's source and time."""

    def launch(self, job: Job, offer: Offer) -> str:
        """Asks for one machine that runs `job` and bears `job.name`; returns its id at once."""

    def inspect(self, machine_id: str) -> Sighting:
        """What this machine is doing. Never waits; an unknown id is `Phase.GONE`, not an error."""

    def fleet(self) -> Iterable[Sighting]:
        """Every machine of this account that carries a name of ours, with that name."""

    def terminate(self, machine_id: str) -> None:
        """Asks the provider to end the machine and its billing. Already gone is fine."""

    def classify(self, error: Exception) -> ProviderError:
        """What the caller does next. A launch error is ambiguous unless proven otherwise."""


class LogsDriver(Driver, Protocol):
    """A driver that claims `Feature.LOGS`."""

    def logs(self, machine_id: str) -> Iterable[str]:
        """The machine's output so far, line by line, oldest first. Untrusted text."""


@dataclass(frozen=True, slots=True)
class SSHAccess:
    """How to log in to one machine by SSH, with its host key known *before* anybody connects.

    `host_key` is what must be found there, as OpenSSH writes a public key (type and key).
    `identity` is the file with the private key that the machine lets in. Nothing here is accepted
    on sight: a driver that cannot know the host key claims no `Feature.SSH`.
    """

    host: str
    user: str
    host_key: str
    identity: Path
    port: int = 22


class SSHDriver(Driver, Protocol):
    """A driver that claims `Feature.SSH`."""

    def ssh(self, machine_id: str) -> SSHAccess | None:
        """How to log in; None while that machine cannot be reached (yet), or is not ours."""


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What a driver package says about itself without importing any SDK.

    `driver` and `simulator` are import strings, "module:Class". `settle_s` is how long a machine
    may stay invisible in `fleet()` after a create; `boot_s` how long our command may take to
    start; `store_schemes` the storage that its machines reach, the default first; `environment`
    the variables that hold its credentials.
    """

    name: str
    title: str
    driver: str
    simulator: str = ""
    environment: tuple[str, ...] = ()
    console_url: str = ""
    store_schemes: tuple[str, ...] = ()
    settle_s: float = 60.0
    boot_s: float = 900.0
    stop_reserve_s: float = 60.0
    deadline: Deadline = Deadline.BY_WATCHER
    features: frozenset[Feature] = frozenset()
    simulated: bool = False
    """Nothing that it launches costs money: not even a test's spending guard minds it."""
    notebook: str = ""
    """A function that writes a run as a notebook, for a machine that only a person starts."""
    publisher: str = ""
    """A function that makes a `Publisher` of a `DriverContext`."""


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver is built from: it reads nothing else of the world.

    `endpoint` replaces the provider's own address, by that of a simulator on loopback, say.
    """

    environment: Mapping[str, str]
    clock: Clock
    endpoint: str | None = None


class Simulator(Protocol):
    """A provider's wire protocol on loopback, over machines that really run: no account, no money.

    Made as `Simulator(folder)`, with whatever else a test wants of it as keywords. It serves from
    `__enter__` to `__exit__`; after that nothing of it runs any more. Machines have their homes
    below `folder`.
    """

    endpoint: str
    """Where it listens, once entered: the driver's `DriverContext.endpoint`."""
    environment: Mapping[str, str]
    """Credentials and addresses that stand in for the user's own, for driver and store alike."""
    store_url: str | None
    """The object storage that its machines reach; None: they share this machine's files."""

    def __init__(self, folder: Path) -> None:
        """A cloud without machines."""

    def __enter__(self) -> Self:
        """Begins to listen."""

    def __exit__(self, *_: object) -> None:
        """Ends every machine, and stops listening."""

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """What the provider promises, with the times of a simulation: seconds, not minutes."""
