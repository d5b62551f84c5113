"""A simulated Azure for the tests of this folder. Its blob storage is started once for all."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute_azureml.simulated.azurite import INSTALL, Azurite, is_installed


@pytest.fixture(scope="session")
def azurite(
    require_tool: Callable[[str], str],
    not_here: Callable[[str, str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Azurite]:
    """Real blob storage over TLS."""
    for tool in ("node", "npm"):
        require_tool(tool)
    if not is_installed():
        not_here("Azurite", f"make test installs it, or: {INSTALL}")
    with Azurite(tmp_path_factory.mktemp("azurite"), Clock().now()) as server:
        yield server


@pytest.fixture
def container(azurite: Azurite) -> str:
    """The URL of an empty container."""
    name = f"test-{secrets.token_hex(6)}"
    azurite.create_container(name, Clock().now())
    return f"az://{name}"


@pytest.fixture
def owner(azurite: Azurite) -> Mapping[str, str]:
    """The environment of the account's owner."""
    return azurite.environment
