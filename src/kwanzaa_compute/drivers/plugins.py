"""Finding the driver packages that are installed, without importing any of their SDKs.

A driver package declares an entry point in the group `kwanzaa_compute`, whose module holds

    from kwanzaa_compute.drivers.plugins import hookimpl

    @hookimpl
    def kwanzaa_providers():
        return [ProviderInfo(name="moonbase", title="Moonbase", driver="moonbase.driver:Driver")]

A package that cannot be loaded stops nobody: it is remembered, with its error, and shown.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, metadata
from pathlib import Path
from typing import Any

import pluggy

from kwanzaa_compute.drivers.contract import Driver, DriverContext, ProviderInfo, Simulator
from kwanzaa_compute.drivers.handover import Handover, Notebook
from kwanzaa_compute.drivers.publication import Publisher
from kwanzaa_compute.errors import UsageError

PROJECT = "kwanzaa_compute"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

KNOWN_PACKAGES: Mapping[str, str] = {
    "runpod": "runpod",
    "lambda": "lambda",
    "sagemaker": "sagemaker",
    "azureml": "azureml",
    "hf-jobs": "huggingface",
    "hf-spaces": "huggingface",
    "autotrain": "huggingface",
    "colab": "colab",
}
"""Providers of ours that live in distributions of their own, and the extra that installs each."""


def how_to_install(names: Iterable[str]) -> str:
    """The command that installs these providers' drivers, or the plain word that there is none.

    Not every provider that can be planned for has its driver in this version: only the extras
    that our own distribution declares are offered.
    """
    declared = set(metadata("kwanzaa-compute").get_all("Provides-Extra") or ())
    extras = sorted({KNOWN_PACKAGES[n] for n in names if n in KNOWN_PACKAGES} & declared)
    if not extras:
        return "no driver in this version: its prices are known, it cannot be launched"
    return f'pip install "kwanzaa-compute[{",".join(extras)}]"'


class Hooks:
    """What a driver package may implement."""

    @hookspec
    def kwanzaa_providers(self) -> Iterable[ProviderInfo]:
        """The providers that this package brings. Must not import an SDK."""
        raise AssertionError("a specification is never called")


@dataclass(slots=True)
class Catalogue:
    """The providers that can be used here, and the driver packages that could not be loaded."""

    providers: dict[str, ProviderInfo] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> ProviderInfo:
        """The provider of that name; a `UsageError` says which there are, or what to install."""
        if name in self.providers:
            return self.providers[name]
        if name in self.broken:
            raise UsageError(
                f"the driver of {name} cannot be loaded: {self.broken[name]}",
                mend="kwanzaa doctor; reinstall its package",
            )
        if name in KNOWN_PACKAGES:
            raise UsageError(
                f"provider {name} is not installed here",
                mend=how_to_install([name]),
            )
        near = get_close_matches(name, [*self.providers, *KNOWN_PACKAGES], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"there is no provider {name!r}{hint}", mend="kwanzaa providers")


def discover(points: Iterable[EntryPoint] | None = None) -> Catalogue:
    """Loads the entry points one by one; the first package to claim a name keeps it."""
    catalogue = Catalogue()
    for point in entry_points(group=PROJECT) if points is None else points:
        try:
            for info in _providers_of(point):
                if catalogue.providers.setdefault(info.name, info) is not info:
                    catalogue.broken[point.name] = f"the name {info.name} is taken already"
        except Exception as error:  # noqa: BLE001 -- somebody else's package may raise anything
            catalogue.broken[point.name] = f"{type(error).__name__}: {error}"
    return catalogue


def _providers_of(point: EntryPoint) -> list[ProviderInfo]:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(point.load(), point.name)
    manager.check_pending()  # a misspelt hook is an error, not silence
    found = [info for infos in manager.hook.kwanzaa_providers() for info in infos]
    for info in found:
        if not isinstance(info, ProviderInfo):
            raise TypeError(f"{info!r} is not a ProviderInfo")
    return found


def build_driver(info: ProviderInfo, context: DriverContext) -> Driver:
    """Imports a provider's driver class, and with it its SDK, and makes a driver of it."""
    factory: Callable[[DriverContext], Driver] = _import_string(info.driver)
    return factory(context)


def build_simulator(info: ProviderInfo, folder: Path) -> Simulator:
    """A provider's loopback cloud, not yet entered. `UsageError` where it has none."""
    if not info.simulator:
        raise UsageError(
            f"{info.name} has no simulator", mend="kwanzaa train --provider sim needs no account"
        )
    factory: Callable[[Path], Simulator] = _import_string(info.simulator)
    return factory(folder)


def write_notebook(info: ProviderInfo, handover: Handover) -> Notebook:
    """A run as a notebook for this provider. `UsageError` where it takes none."""
    if not info.notebook:
        raise UsageError(f"{info.name} takes no notebook", mend="kwanzaa providers")
    writer: Callable[[Handover], Notebook] = _import_string(info.notebook)
    return writer(handover)


def build_publisher(catalogue: Catalogue, context_of: Callable[[str], DriverContext]) -> Publisher:
    """What puts adapters onto a hub, of the first package that can. `UsageError` without one."""
    found = next((info for info in catalogue.providers.values() if info.publisher), None)
    if found is None:
        raise UsageError(
            "nothing that is installed here can publish", mend=how_to_install(["hf-jobs"])
        )
    factory: Callable[[DriverContext], Publisher] = _import_string(found.publisher)
    return factory(context_of(found.name))


def _import_string(where: str) -> Any:
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise UsageError(f"there is no {name} in {module}", mend="kwanzaa providers") from error
    except ImportError as error:
        raise UsageError(
            f"{module} needs {error.name or 'a package'} that is not installed",
            mend="kwanzaa providers",
        ) from error
