"""Whole runs on loopback clouds: `--simulate`. No account, no money, and nothing outlives us."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute.compute import Compute
from kwanzaa_compute.drivers.contract import Simulator
from kwanzaa_compute.drivers.plugins import Catalogue, build_simulator, discover
from kwanzaa_compute.errors import UsageError

FOLDER = "simulated"
"""Below `home`: a ledger, machines and stores of their own for each simulation that runs."""


@contextmanager
def simulated(
    providers: Sequence[str],
    *,
    home: Path | str,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    catalogue: Catalogue | None = None,
) -> Iterator[Compute]:
    """A `Compute` whose providers are these, each played by its own simulator on loopback.

    Its ledger is one of its own: runs of a simulation end with it, and are never mixed up with
    runs that cost money. Raises `UsageError` for a provider that has no simulator.
    """
    found = catalogue or discover()
    with ExitStack() as stack:
        folder = stack.enter_context(_scratch(Path(home)))
        simulators = {
            name: stack.enter_context(build_simulator(found.find(name), folder / "clouds" / name))
            for name in providers
        }
        compute = compute_over(simulators, found, folder, environment=environment, clock=clock)
        try:
            yield compute
        finally:
            compute.ledger.close()


def compute_over(
    simulators: Mapping[str, Simulator],
    catalogue: Catalogue,
    home: Path,
    *,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Compute:
    """A `Compute` over simulators that have been entered already, by provider name."""
    entered = list(simulators.values())
    infos = {name: one.adapt(catalogue.find(name)) for name, one in simulators.items()}
    return Compute(
        home=home,
        store=_store_of(entered),
        environment=_environment(environment, entered),
        clock=clock,
        catalogue=Catalogue(infos),
        endpoints={name: one.endpoint for name, one in simulators.items()},
    )


def _store_of(simulators: Sequence[Simulator]) -> str | None:
    urls = {simulator.store_url for simulator in simulators}
    if len(urls) > 1:
        raise UsageError(
            "these providers' simulators do not share a store",
            mend="simulate one --provider at a time",
        )
    return urls.pop() if urls else None


def _environment(
    environment: Mapping[str, str] | None, simulators: Sequence[Simulator]
) -> Mapping[str, str]:
    together = dict(os.environ if environment is None else environment)
    for simulator in simulators:
        together |= simulator.environment
    return together


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder for one simulation, removed after it; those of dead processes are swept away."""
    parent = home / FOLDER
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in parent.iterdir():
        if not _is_running(old.name.partition("-")[0]):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError):
        return False
    return True
