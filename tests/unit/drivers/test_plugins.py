"""Finding driver packages: one by one, remembering the broken ones, helping with names."""

import subprocess
import sys
from email.message import Message
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, ProviderInfo
from kwanzaa_compute.drivers.plugins import build_driver, discover, how_to_install
from kwanzaa_compute.errors import UsageError

GOOD = """
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

@hookimpl
def kwanzaa_providers():
    return [ProviderInfo(name="{name}", title="{name}", driver="{module}:Driver")]

class Driver:
    def __init__(self, context):
        self.context = context
"""
HOOK = "from kwanzaa_compute.drivers.plugins import hookimpl\n@hookimpl\n"
CONTEXT = DriverContext({}, Clock())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(tmp_path))

    def package(module: str, source: str) -> EntryPoint:
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return EntryPoint(module, module, "kwanzaa_compute")

    return package


def good(module: str, name: str) -> str:
    return GOOD.format(module=module, name=name)


def test_our_own_provider_is_found() -> None:
    assert discover().find("local").driver.endswith(":LocalDriver")


def test_a_package_brings_its_provider_and_its_driver(package) -> None:
    catalogue = discover([package("kz_moon", good("kz_moon", "moonbase"))])
    driver = build_driver(catalogue.find("moonbase"), CONTEXT)
    assert driver.context is CONTEXT  # type: ignore[attr-defined]
    assert catalogue.broken == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_sdk", "no_such_sdk"),
        ("raise RuntimeError('half installed')", "half installed"),
        ("def (", "SyntaxError"),
        (
            f"{HOOK}def kwanza_providers(): return []",
            "kwanza_providers",
        ),
        (
            f"{HOOK}def kwanzaa_providers(): return ['moonbase']",
            "ProviderInfo",
        ),
        (
            f"{HOOK}def kwanzaa_providers(): return 7",
            "TypeError",
        ),
    ],
    ids=["no sdk", "raises", "syntax", "misspelt hook", "wrong kind", "no list"],
)
def test_a_broken_package_is_remembered_and_stops_nobody(package, source, words) -> None:
    points = [package("kz_broken", source), package("kz_fine", good("kz_fine", "fine"))]
    catalogue = discover(points)
    assert set(catalogue.providers) == {"fine"}
    assert words in catalogue.broken["kz_broken"]
    with pytest.raises(UsageError, match="cannot be loaded"):
        catalogue.find("kz_broken")


def test_the_first_package_to_claim_a_name_keeps_it(package) -> None:
    points = [
        package("kz_first", good("kz_first", "moonbase")),
        package("kz_second", good("kz_second", "moonbase")),
    ]
    catalogue = discover(points)
    assert catalogue.find("moonbase").driver == "kz_first:Driver"
    assert "taken" in catalogue.broken["kz_second"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("lokal", "did you mean local"), ("runpodd", "did you mean runpod"), ("zzz", "no provider")],
)
def test_an_unknown_name_is_helped(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        discover().find(name)


def test_a_provider_without_a_driver_in_this_version_is_not_offered_for_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kwanzaa_compute.drivers.plugins.metadata", lambda _name: Message())
    with pytest.raises(UsageError, match="no driver in this version"):
        discover([]).find("hf-jobs")


def test_a_driver_that_our_distribution_declares_can_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declared = Message()
    declared["Provides-Extra"] = "huggingface"
    monkeypatch.setattr("kwanzaa_compute.drivers.plugins.metadata", lambda _name: declared)
    assert how_to_install(["hf-jobs"]) == 'pip install "kwanzaa-compute[huggingface]"'


@pytest.mark.parametrize(
    ("where", "words"),
    [("no_such_module:Driver", "no_such_module"), ("json:NoSuchDriver", "NoSuchDriver")],
)
def test_a_driver_that_cannot_be_imported_is_a_clear_error(where: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_driver(ProviderInfo("x", "X", driver=where), CONTEXT)


def test_looking_for_providers_imports_no_sdk() -> None:
    code = (
        "import sys; from kwanzaa_compute.drivers.plugins import discover; discover();"
        "bad = {'torch', 'boto3', 'azure', 'huggingface_hub', 'runpod'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
