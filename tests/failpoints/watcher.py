"""A watcher in a process of its own, to be killed: `python watcher.py LEDGER`.

Cloud and clock belong to whoever started it, and are asked line by line: {"call": ..., "args": ...}
goes out on stdout, {"value": ...} or {"error": ..., "message": ...} comes back on stdin.
"""

import json
import os
import sys
from typing import Any

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Job, Phase, ProviderInfo, Sighting
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import LeaseLostError, ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.supervisor import Supervisor
from kwanzaa_compute.store import open_store
from kwanzaa_compute.testing import weather
from kwanzaa_compute.testing.fakecloud import FEATURES, classify


def ask(call: str, **args: Any) -> Any:
    sys.stdout.write(json.dumps({"call": call, "args": args}) + "\n")
    sys.stdout.flush()
    answer = json.loads(sys.stdin.readline())
    if "error" in answer:
        kind = getattr(weather, answer["error"])
        raise kind(20.0) if kind is weather.RateLimitedError else kind(answer["message"])
    return answer["value"]


def sighting(raw: dict[str, Any]) -> Sighting:
    return Sighting(raw["machine_id"], Phase(raw["phase"]), raw["name"])


class Wire:
    """The driver of a cloud at the other end of two pipes."""

    features = FEATURES

    def offers(self) -> list[Offer]:
        return []

    def launch(self, job: Job, offer: Offer) -> str:
        place = {"offer": offer.id, "region": offer.region}
        told = {"env": dict(job.env), "max_hours": job.max_hours, "store_url": job.store_url}
        return str(ask("launch", name=job.name, **place, **told))

    def inspect(self, machine_id: str) -> Sighting:
        return sighting(ask("inspect", machine_id=machine_id))

    def fleet(self) -> list[Sighting]:
        return [sighting(raw) for raw in ask("fleet")]

    def terminate(self, machine_id: str) -> None:
        ask("terminate", machine_id=machine_id)

    def classify(self, error: Exception) -> ProviderError:
        return classify(error)


def main() -> None:
    clock = Clock(
        now=lambda: ask("now"), monotonic=lambda: ask("now"), sleep=lambda s: ask("sleep", s=s)
    )
    info = ProviderInfo("fake", "A cloud", "", settle_s=30.0, simulated=True, features=FEATURES)
    provider = Provider(info, Wire(), clock, RetryPolicy(deadline_s=None))
    watcher = Supervisor(
        Ledger(sys.argv[1], clock),
        lambda _name: provider,
        open_store,
        clock,
        holder=f"w{os.getpid()}",
        environment={},
    )
    while True:
        try:
            watcher.watch("r1", poll_s=20.0)
        except LeaseLostError:
            clock.sleep(30.0)  # the lease of one that was killed runs out
        else:
            return


if __name__ == "__main__":
    main()
