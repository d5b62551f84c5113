"""The pytest plugin: a fake cloud, a `Compute` over it, and no way to spend money by accident.

Inside pytest nothing that costs money is launched, in this process or in those it starts, unless
the test is marked `live`. Ending a machine is never forbidden.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from kwanzaa_compute.drivers import provider

if TYPE_CHECKING:
    from kwanzaa_compute.compute import Compute
    from kwanzaa_compute.drivers.contract import DriverContext
    from kwanzaa_compute.testing.fakecloud import FakeCloud

VARIABLE = "KWANZAA_SPENDING"
_clouds: list["FakeCloud"] = []


def pytest_configure(config: pytest.Config) -> None:
    """Forbids spending until the session is over."""
    config.addinivalue_line("markers", "live: talks to a real provider and may cost money")
    guard = ExitStack()
    guard.enter_context(spending(allowed=False))
    config.add_cleanup(guard.close)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Allows spending to a test that is marked `live`, with its fixtures, and to no other."""
    with spending(allowed=item.get_closest_marker("live") is not None):
        return (yield)


@contextmanager
def spending(*, allowed: bool) -> Iterator[None]:
    """Allows or forbids to launch what costs money, here and in the processes started from here."""
    before, variable = provider.ALLOW_SPENDING, os.environ.get(VARIABLE)
    provider.ALLOW_SPENDING = allowed
    os.environ[VARIABLE] = "allowed" if allowed else "never"
    try:
        yield
    finally:
        provider.ALLOW_SPENDING = before
        if variable is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = variable


@pytest.fixture
def fake_cloud() -> "Iterator[FakeCloud]":
    """A `FakeCloud` in which nothing goes wrong; the test fails if it leaves a machine billing.

    For other weather make your own: `FakeCloud(preempt_at=(600,))`.
    """
    from kwanzaa_compute.testing.fakecloud import FakeCloud

    cloud = FakeCloud()
    yield cloud
    still = ", ".join(f"{m.id} ({m.name})" for m in cloud.billing)
    assert not still, f"the test left machines billing: {still}"  # noqa: S101 -- a test's verdict


@pytest.fixture
def compute(fake_cloud: "FakeCloud", tmp_path: Path) -> "Iterator[Compute]":
    """A `Compute` whose one provider is `fake_cloud`: whole runs in milliseconds, for nothing."""
    with compute_over(fake_cloud, tmp_path / "kwanzaa") as compute:
        yield compute


@contextmanager
def compute_over(
    cloud: "FakeCloud", home: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> "Iterator[Compute]":
    """A `Compute` over a fake cloud of your own; its ledger and its runs' folders lie in `home`.

    It knows no variables but those of `environment`.
    """
    from dataclasses import replace

    from kwanzaa_compute.compute import Compute
    from kwanzaa_compute.drivers.plugins import Catalogue

    info = replace(cloud.info, driver=f"{__name__}:_newest_cloud", store_schemes=("file",))
    _clouds.append(cloud)
    compute = Compute(
        home=home,
        environment=environment,
        clock=cloud.clock.clock(),
        catalogue=Catalogue(providers={info.name: info}),
    )
    try:
        yield compute
    finally:
        compute.ledger.close()
        _clouds.remove(cloud)


def _newest_cloud(context: "DriverContext") -> "FakeCloud":
    """What the catalogue's import string leads to: drivers are built from their context alone."""
    del context
    return _clouds[-1]
