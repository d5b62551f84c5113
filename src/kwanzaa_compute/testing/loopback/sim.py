"""The provider `sim`: a whole cloud on this machine, for anybody who wants to see it all happen.

Its machines are processes that really train. There is no wire between: the driver talks to the
cloud of its process directly. The other providers' simulators speak their real protocols.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

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
from kwanzaa_compute.drivers.plugins import hookimpl
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.testing.fakecloud import classify, fake_offers, sighting_of
from kwanzaa_compute.testing.loopback.cloud import QUICK, Command, LoopbackCloud
from kwanzaa_compute.testing.weather import Faults, Place, Weather

FEATURES = frozenset(
    {
        Feature.UNATTENDED,
        Feature.CUSTOM_CODE,
        Feature.SPOT,
        Feature.LOGS,
        Feature.SHARES_FILES,
    }
)
_clouds: dict[str, LoopbackCloud] = {}


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """The `sim` provider: trains for real, costs nothing, needs nothing."""
    return [
        ProviderInfo(
            name="sim",
            title="A simulated cloud on this machine",
            driver=f"{__name__}:SimDriver",
            simulator=f"{__name__}:Sim",
            store_schemes=("file",),
            settle_s=1.0,
            boot_s=600.0,
            stop_reserve_s=30.0,
            deadline=Deadline.BY_PROVIDER,
            features=FEATURES,
            simulated=True,
        )
    ]


class Sim:
    """The cloud of `sim`. `cloud` is its truth."""

    store_url = None
    environment: Mapping[str, str] = {}

    def __init__(
        self, folder: Path, *, weather: Weather = QUICK, faults: Faults | None = None
    ) -> None:
        """Sells a few well-known GPUs, on demand and spot."""
        self.endpoint = f"sim:{folder}"
        self._folder, self._weather, self._faults = folder, weather, faults

    def __enter__(self) -> Self:
        places = [Place(offer) for offer in fake_offers("sim")]
        self.cloud = LoopbackCloud(places, self._folder, weather=self._weather, faults=self._faults)
        _clouds[self.endpoint] = self.cloud
        return self

    def __exit__(self, *_: object) -> None:
        del _clouds[self.endpoint]
        self.cloud.close()

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """It promises nothing but what it keeps here."""
        return info


class SimDriver:
    """The six methods, over the cloud of this process."""

    features = FEATURES

    def __init__(self, context: DriverContext) -> None:
        """Finds its cloud by `context.endpoint`; without one there is nothing for sale."""
        self._cloud = _clouds.get(context.endpoint or "")
        self._clock = context.clock

    def offers(self) -> Iterable[Offer]:
        """What the cloud sells, at its prices of now."""
        if self._cloud is None:
            return
        with self._cloud.at_once() as sim:
            for place in sim.places.values():
                there = sim.has_capacity(place)
                yield replace(
                    place.offer,
                    usd_per_hour=sim.price(place),
                    availability=Availability.AVAILABLE if there else Availability.SOLD_OUT,
                    as_of=iso(self._clock.now()),
                )

    def launch(self, job: Job, offer: Offer) -> str:
        """Creates a machine that runs the job's command under its time limit."""
        cloud = self._here()
        secrets = {name: secret.reveal() for name, secret in job.secrets.items()}
        command = Command(job.argv, {**job.env, **secrets})
        machine_id = cloud.create(job.name, (offer.id, offer.region), command)
        cloud.expire_at(machine_id, self._clock.now() + job.max_hours * 3600)
        return machine_id

    def inspect(self, machine_id: str) -> Sighting:
        """What one machine is doing."""
        machine = self._cloud.look(machine_id) if self._cloud else None
        return Sighting(machine_id, Phase.GONE) if machine is None else sighting_of(machine)

    def fleet(self) -> Iterable[Sighting]:
        """Every machine that the cloud shows; none outlives the process that simulates it."""
        return [sighting_of(machine) for machine in (self._cloud.listing() if self._cloud else ())]

    def terminate(self, machine_id: str) -> None:
        """Ends a machine; an unknown one is no error."""
        if self._cloud is not None:
            self._cloud.terminate(machine_id)

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the machine printed."""
        known = self._cloud is not None and "/" not in machine_id
        return self._here().room.output(machine_id) if known else []

    def classify(self, error: Exception) -> ProviderError:
        """What a simulated cloud's answers mean."""
        return classify(error)

    def _here(self) -> LoopbackCloud:
        if self._cloud is None:
            raise LookupError("this simulated cloud ended with the process that started it")
        return self._cloud
