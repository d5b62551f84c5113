"""Colab as a provider: it passes what it claims, and nothing is ever rented there by itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kwanzaa_compute.cli import main
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Feature
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.errors import InvalidRequestError
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_colab import kwanzaa_providers
from kwanzaa_compute_colab.driver import ColabDriver, OnlyByHandError

(INFO,) = kwanzaa_providers()


def driver() -> ColabDriver:
    return ColabDriver(DriverContext({}, Clock()))


class TestColab(DriverConformance):
    """Only a person starts a machine here, so what launches one is skipped."""

    @pytest.fixture
    def harness(self) -> Harness:
        return Harness(
            info=INFO, driver=driver(), clock=Clock(), job=lambda n, _s: sample_job(name=n)
        )


def test_a_launch_is_refused_and_proven_to_have_made_nothing() -> None:
    colab = driver()
    with pytest.raises(OnlyByHandError) as refused:
        colab.launch(sample_job(), next(iter(colab.offers())))
    meaning = colab.classify(refused.value)
    assert isinstance(meaning, InvalidRequestError)
    assert meaning.nothing_was_created
    assert "writes the notebook" in meaning.mend


def test_no_offer_has_a_price_and_each_needs_a_person() -> None:
    offers = list(driver().offers())
    assert [offer.id for offer in offers] == ["T4", "L4", "A100", "H100"]
    assert {offer.usd_per_hour for offer in offers} == {None}
    assert all(offer.attended and "subscription" in offer.source for offer in offers)
    assert Feature.UNATTENDED not in INFO.features


@pytest.mark.parametrize("words", [[], ["--provider", "colab"]])
def test_a_plan_shows_it_and_never_picks_it(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("KWANZAA_HOME", str(tmp_path))
    main(["plan", str(project / "training.yaml"), *words, "--offline", "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert "colab" not in [c["offer"]["provider"] for c in plan["candidates"]]
    assert "colab" in [r["offer"]["provider"] for r in plan["refused"]]


def test_the_package_is_found_and_loads_no_library() -> None:
    assert discover().find("colab").notebook
    code = (
        "import sys, kwanzaa_compute_colab;"
        "print([n for n in ('nbformat', 'jsonschema', 'obstore') if n in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
