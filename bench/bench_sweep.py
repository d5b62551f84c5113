"""One sweep of a watcher over ten thousand open runs: CPU, memory, and how often a cloud is asked.

    python bench/bench_sweep.py [--runs 10000] [--store memory|file]

Every run has a machine at work, and every heartbeat has changed since the sweep before. The ledger
lies on disk. With `--store file` each run's three objects are read from disk through the store.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import Job, Phase, ProviderInfo, Sighting
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import ProviderError, TransientError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.supervisor import Supervisor
from kwanzaa_compute.store import Heartbeat, RunFolder, Store, open_store
from kwanzaa_compute.testing.memory_store import MemoryStores
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer, sample_run

MOST_CPU_S = 2.0
MOST_MIB = 300.0
CANDIDATES = 20
CONFIG = "x" * 4000
"""As long as the canonical JSON of a usual training.yaml."""


class Crowd:
    """A driver whose machines all work, and that counts how often it is asked."""

    features: frozenset[str] = frozenset()

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.lists = 0
        self.looks = 0

    def offers(self) -> Iterable[Offer]:
        """Nothing is for sale."""
        return ()

    def launch(self, job: Job, offer: Offer) -> str:
        """One more machine at work."""
        del offer
        self.names.append(job.name)
        return job.name

    def inspect(self, machine_id: str) -> Sighting:
        """A machine at work."""
        self.looks += 1
        return Sighting(machine_id, Phase.RUNNING, machine_id)

    def fleet(self) -> Iterable[Sighting]:
        """All of them, at work."""
        self.lists += 1
        return [Sighting(name, Phase.RUNNING, name) for name in self.names]

    def terminate(self, machine_id: str) -> None:
        """It is gone from the list at once."""
        self.names.remove(machine_id)

    def classify(self, error: Exception) -> ProviderError:
        """Nothing goes wrong here."""
        return TransientError(str(error))


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; exit status 1 where a run was missed or a machine asked for alone.

    A busy machine is no regression: the figures stand beside their limits and fail nothing.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--store", choices=("memory", "file"), default="memory")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), options.runs, in_memory=options.store == "memory")


def measure(folder: Path, runs: int, *, in_memory: bool) -> int:
    """Fills a ledger, sweeps once to warm up, and measures the second sweep."""
    opens: Callable[[str], Store] = MemoryStores().open if in_memory else open_store
    where = "memory://" if in_memory else (folder / "runs").as_uri() + "/"
    crowd = Crowd([f"kwz-me-r{n}-1" for n in range(runs)])
    clock = Clock()
    info = ProviderInfo("fake", "A crowd", "", simulated=True)
    provider = Provider(info, crowd, clock)  # type: ignore[arg-type]
    with closing(Ledger(folder / "ledger.db", clock)) as ledger:
        fill(ledger, runs, where, clock)
        watcher = Supervisor(
            ledger, lambda _name: provider, opens, clock, holder="me", environment={}
        )
        for beat in (1, 2):
            for n in range(runs):
                RunFolder(opens(f"{where}r{n}")).put_heartbeat(Heartbeat(beat, "train", 1, beat))
            crowd.lists = crowd.looks = 0
            began, wall = time.process_time(), time.monotonic()
            steps = watcher.sweep()
            cpu_s, wall_s = time.process_time() - began, time.monotonic() - wall
            seen = sum(step.heartbeat is not None for step in steps)
            del steps
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kind = "memory" if in_memory else "file"
    print(f"{seen:,} of {runs:,} open runs seen, every heartbeat news, {kind} store")
    print(f"CPU {cpu_s:.2f} s (limit {MOST_CPU_S}), wall {wall_s:.2f} s")
    print(f"memory of the whole process, at most {mib:.0f} MiB (limit {MOST_MIB:.0f})")
    print(f"asked the provider for {crowd.lists} list(s) and {crowd.looks} single machines")
    return 0 if (crowd.lists, crowd.looks, seen) == (1, 0, runs) else 1


def fill(ledger: Ledger, runs: int, where: str, clock: Clock) -> None:
    """So many runs at work, each with the config and the candidates of a usual one."""
    usual = sample_run(*[sample_offer()] * CANDIDATES, config=CONFIG)
    at_work = sample_attempt(intended_at=clock.now())
    ledger.import_runs(
        (
            replace(usual, id=f"r{n}", store_url=f"{where}r{n}", created_at=clock.now()),
            [replace(at_work, run_id=f"r{n}", name=f"kwz-me-r{n}-1", machine_id=f"kwz-me-r{n}-1")],
        )
        for n in range(runs)
    )


if __name__ == "__main__":
    sys.exit(main())
