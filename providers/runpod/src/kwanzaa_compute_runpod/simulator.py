"""RunPod on loopback: its wire protocol, over machines that really run their command."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.testing.loopback import LoopbackCloud
from kwanzaa_compute.testing.loopback.cloud import QUICK
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute.testing.weather import Faults, Weather
from kwanzaa_compute_runpod.client import KEY
from kwanzaa_compute_runpod.driver import REGISTRY, VOLUME
from kwanzaa_compute_runpod.images import SETTING
from kwanzaa_compute_runpod.simulated.account import Account, places
from kwanzaa_compute_runpod.simulated.pods import Pods
from kwanzaa_compute_runpod.simulated.registry import SimRegistry
from kwanzaa_compute_runpod.simulated.rest import RestV2, troubles
from kwanzaa_compute_runpod.simulated.sdk import SdkApi


class RunPodSimulator:
    """A RunPod without an account. `cloud` is its truth, `server` its API, `account` its customer.

    Like RunPod it starts a command that has ended again, and puts a key into each machine that
    reaches this machine alone.
    """

    store_url = None

    def __init__(
        self,
        folder: Path,
        *,
        weather: Weather = QUICK,
        faults: Faults | None = None,
        capacity: Mapping[tuple[str, str], int] | None = None,
        seed: int = 0,
    ) -> None:
        """`capacity` limits types by (GPU id, "secure" or "community")."""
        self.account = Account()
        self._folder, self._weather, self._faults = folder, weather, faults
        self._capacity, self._seed = capacity, seed

    def __enter__(self) -> Self:
        self.cloud = LoopbackCloud(
            places(self._capacity),
            self._folder,
            seed=self._seed,
            weather=self._weather,
            faults=self._faults,
        )
        pods = Pods(self.cloud, self.account, self._folder)
        pods.watch_boots()
        self._rest, self._sdk = RestV2(pods), SdkApi(pods)
        self.server = WireServer(self._handle, on_error=troubles)
        self.registry = SimRegistry()
        return self

    def __exit__(self, *_: object) -> None:
        self._rest.closed.set()
        self.cloud.close()
        self.server.close()
        self.registry.server.close()

    @property
    def endpoint(self) -> str:
        """Where its API listens."""
        return self.server.url

    @property
    def environment(self) -> Mapping[str, str]:
        """A key, a registry, and no settings of the user's own."""
        return {
            KEY: self.account.key,
            REGISTRY: self.registry.server.url,
            SETTING: "",
            VOLUME: "",
        }

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """The same promises, in seconds."""
        return replace(
            info,
            simulated=True,
            settle_s=1.0,
            boot_s=120.0,
            stop_reserve_s=5.0,
            store_schemes=(*info.store_schemes, "file"),
        )

    def _handle(self, request: Request) -> Reply:
        if request.path == "/graphql":
            return self._sdk.handle(request)
        return self._rest.handle(request)
