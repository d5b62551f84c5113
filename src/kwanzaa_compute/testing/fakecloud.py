"""`FakeCloud`: a whole cloud for tests. No account, no network, no money, no waiting.

    cloud = FakeCloud(preempt_at=(600,))
    provider = cloud.provider()

It is an ordinary driver over a `SimCloud`. Its machines run a trainer that pretends to compute
and otherwise does everything for real in the run's store: heartbeats, checkpoints, resuming,
stopping when asked, the done marker. Time passes only when somebody sleeps on `cloud.clock`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import (
    Deadline,
    DriverContext,
    Feature,
    Job,
    Phase,
    ProviderInfo,
    Sighting,
)
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import (
    CapacityError,
    InvalidRequestError,
    ProviderError,
    TransientError,
)
from kwanzaa_compute.market.gpus import all_gpus
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.store import Store, open_store
from kwanzaa_compute.testing.chance import Chance
from kwanzaa_compute.testing.fakeclock import START, FakeClock
from kwanzaa_compute.testing.memory_store import MemoryStores
from kwanzaa_compute.testing.simcloud import SimCloud, SimMachine, State
from kwanzaa_compute.testing.simtrainer import SimTrainer, Training
from kwanzaa_compute.testing.weather import (
    Faults,
    Place,
    RateLimitedError,
    SimError,
    SoldOutError,
    Trace,
    UnknownOfferError,
    Weather,
)

FEATURES = frozenset(
    {
        Feature.UNATTENDED,
        Feature.CUSTOM_CODE,
        Feature.SPOT,
        Feature.LOGS,
        Feature.SHARES_FILES,
    }
)
_PHASES = {
    State.STARTING: Phase.STARTING,
    State.RUNNING: Phase.RUNNING,
    State.EXITED: Phase.EXITED,
    State.STOPPED: Phase.PREEMPTED,
    State.ENDING: Phase.STOPPING,
    State.ENDED: Phase.STOPPING,  # it is gone, and the list does not know yet
}
_SOLD = (("L4", "0.70"), ("A10G", "1.00"), ("A100-80GB", "1.90"), ("H100 PCIe", "3.00"))


def fake_offers(provider: str = "fake") -> list[Offer]:
    """What `FakeCloud` sells unless it is told otherwise: well-known GPUs, spot at a quarter."""
    gpus = {gpu.name: gpu for gpu in all_gpus()}
    offers: list[Offer] = []
    for name, price in _SOLD:
        offer = Offer(
            provider=provider,
            id=name.lower().replace(" ", "-"),
            gpu=gpus[name],
            usd_per_hour=Decimal(price),
            region="north",
            availability=Availability.AVAILABLE,
            disk_usd_per_gib_hour=Decimal("0.0001"),
            disk_gib=100.0,
            source="invented",
            as_of=iso(START),
        )
        spot = replace(
            offer, id=f"{offer.id}-spot", spot=True, usd_per_hour=Decimal(price) / 4, region="south"
        )
        offers += [offer, spot]
    return offers


class FakeCloud:
    """A driver for tests. `sim` is the model under it, with the truth about every machine."""

    features = FEATURES

    def __init__(
        self,
        *,
        name: str = "fake",
        offers: Sequence[Offer] | None = None,
        sold_out: Collection[str] = (),
        slow_boot: float = 30.0,
        preempt_at: Collection[float] = (),
        trace: Trace | Mapping[str, Trace] | None = None,
        seed: int | str = 0,
        clock: FakeClock | None = None,
        weather: Weather | None = None,
        faults: Faults | None = None,
        training: Training | None = None,
        chance: Chance | None = None,
        open_store: Callable[[str], Store] | None = None,
        info: ProviderInfo | None = None,
    ) -> None:
        """A cloud in which nothing goes wrong but what is named here.

        `sold_out`: ids of offers without capacity. `slow_boot`: seconds until a machine's first
        instruction. `preempt_at`: seconds from the start at which every spot machine is taken
        back. `trace`: when spot capacity is there at all, everywhere or by region.
        `weather` (it replaces `slow_boot`) and `faults` say everything else that clouds do;
        `training` what a machine has to do; `open_store` opens the store of a job (default:
        `memory://` in `stores`, anything else for real). `info` replaces what the provider
        promises of itself.
        """
        self.clock = clock or FakeClock()
        self.stores = MemoryStores()
        self.training = training or Training()
        self._open_store = open_store or self.open_store
        self._offers = list(fake_offers(name) if offers is None else offers)
        places = [
            Place(o, 0 if o.id in sold_out else None, _trace_of(o, trace)) for o in self._offers
        ]
        self.sim = SimCloud(
            places,
            self.clock,
            seed=seed,
            weather=weather or Weather(boot_s=(slow_boot, slow_boot)),
            faults=faults,
            chance=chance,
        )
        self.sim.on_boot = self._boot
        self.sim.on_create = self._limit
        self.trainers: dict[str, SimTrainer] = {}
        """The trainer of each machine that has booted, by machine id."""
        for after_s in sorted(preempt_at):
            self.clock.call_at(self.clock.at + after_s, self.preempt_all)
        self.info = info or ProviderInfo(
            name=name,
            title="A simulated cloud",
            driver="kwanzaa_compute.testing.fakecloud:from_context",
            console_url="https://console.invalid",
            store_schemes=("memory", "file"),
            settle_s=max(30.0, 2 * self.sim.weather.list_lag_s),
            boot_s=max(900.0, 2 * self.sim.weather.boot_s[1]),
            deadline=Deadline.BY_PROVIDER,
            features=FEATURES,
            simulated=True,
        )

    def provider(self, policy: RetryPolicy | None = None) -> Provider:
        """This cloud as a `Provider`. Its calls cannot hang, so that they need no deadline."""
        policy = policy or RetryPolicy(deadline_s=None)
        return Provider(self.info, self, self.clock.clock(), policy)

    def open_store(self, url: str) -> Store:
        """The store at a URL: in memory for `memory://`, a real one for anything else."""
        return self.stores.open(url) if url.startswith("memory://") else open_store(url)

    def preempt_all(self) -> None:
        """Takes every spot machine back, now."""
        for machine in list(self.sim.machines.values()):
            if machine.place.offer.spot:
                self.sim.preempt(machine)

    @property
    def billing(self) -> list[SimMachine]:
        """The machines that cost money now: what must be empty when a test ends."""
        return self.sim.billing

    @property
    def billed_usd(self) -> Decimal:
        """What this cloud's bill says until now."""
        return sum((self.sim.billed_usd(m) for m in self.sim.machines.values()), Decimal(0))

    # -- the driver ---------------------------------------------------------------------------

    def offers(self) -> Iterable[Offer]:
        """What is for sale now, at the price of this hour."""
        for offer in self._offers:
            place = self.sim.places[offer.id, offer.region]
            there = self.sim.has_capacity(place)
            yield replace(
                offer,
                usd_per_hour=self.sim.price(place),
                availability=Availability.AVAILABLE if there else Availability.SOLD_OUT,
                as_of=iso(self.clock.at),
            )

    def launch(self, job: Job, offer: Offer) -> str:
        """Creates a machine that bears the job's name."""
        return self.sim.create(job.name, (offer.id, offer.region), job)

    def inspect(self, machine_id: str) -> Sighting:
        """What one machine is doing; GONE where the API does not show it."""
        machine = self.sim.look(machine_id)
        return Sighting(machine_id, Phase.GONE) if machine is None else sighting_of(machine)

    def fleet(self) -> Iterable[Sighting]:
        """Every machine that the API shows."""
        return [sighting_of(machine) for machine in self.sim.listing()]

    def terminate(self, machine_id: str) -> None:
        """Ends a machine; an unknown one is no error."""
        self.sim.terminate(machine_id)

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the machine's trainer printed."""
        trainer = self.trainers.get(machine_id)
        return [] if trainer is None else list(trainer.lines)

    def classify(self, error: Exception) -> ProviderError:
        """What a simulated cloud's answers mean."""
        return classify(error)

    def _limit(self, machine: SimMachine) -> None:
        """A provider's own limit counts from the first second that it bills."""
        job = machine.command
        if self.info.deadline is Deadline.BY_PROVIDER and isinstance(job, Job):
            ends_at = machine.created_at + job.max_hours * 3600
            self.clock.call_at(ends_at, lambda: self.sim.expire(machine))

    def _boot(self, machine: SimMachine) -> None:
        job = machine.command
        if isinstance(job, Job):
            store = self._open_store(job.store_url)
            self.trainers[machine.id] = SimTrainer(self.sim, machine, job, store, self.training)


def _trace_of(offer: Offer, trace: Trace | Mapping[str, Trace] | None) -> Trace | None:
    if not offer.spot:
        return None
    return trace.get(offer.region) if isinstance(trace, Mapping) else trace


def classify(error: Exception) -> ProviderError:
    """What the answers of a `SimCloud` mean to a caller."""
    words = str(error) or type(error).__name__
    match error:
        case SoldOutError():
            return CapacityError(words, nothing_was_created=True)
        case RateLimitedError(retry_after_s=after):
            return TransientError(words, nothing_was_created=True, retry_after_s=after)
        case UnknownOfferError():
            return InvalidRequestError(words, nothing_was_created=True)
        case SimError() | OSError():
            return TransientError(words)
        case _:
            return InvalidRequestError(f"{type(error).__name__}: {error}")


def from_context(context: DriverContext) -> FakeCloud:
    """A fake cloud with a clock of its own, for whoever builds drivers from import strings."""
    return FakeCloud(seed=context.environment.get("KWANZAA_FAKE_SEED", "0"))


def sighting_of(machine: SimMachine) -> Sighting:
    """A machine of the model, as a driver over it reports it."""
    place = machine.place
    stopped = machine.state is State.STOPPED
    disk = Decimal(place.offer.disk_gib or 0) * place.offer.disk_usd_per_gib_hour
    return Sighting(
        machine.id,
        _PHASES[machine.state],
        machine.name,
        exit_code=machine.exit_code,
        usd_per_hour=disk if stopped else machine.usd_per_hour,
        region=place.offer.region,
    )
