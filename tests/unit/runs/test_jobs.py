"""What a machine is told: the same command everywhere, and never a secret in it."""

from dataclasses import replace

import pytest

from kwanzaa_compute.drivers.contract import Feature, Job, ProviderInfo
from kwanzaa_compute.runs.interruptions import interruptions_per_h
from kwanzaa_compute.runs.jobs import PLAIN_VARIABLES, STORE_VARIABLES, job_for
from kwanzaa_compute.runs.records import Fault
from kwanzaa_compute.testing.samples import sample_attempt, sample_run

STORES = {"file": "file:///runs/r1", "s3": "s3://b/r1", "gs": "gs://b/r1", "az": "az://b/r1"}
NAMES = sorted(
    {"HF_TOKEN", "RUNPOD_API_KEY", "LAMBDA_API_KEY", "WANDB_API_KEY"}
    | {name for names in (*STORE_VARIABLES.values(), *PLAIN_VARIABLES.values()) for name in names}
)
CANARIES = {name: f"canary-{name.lower()}" for name in NAMES}
SECRETS = {name for names in STORE_VARIABLES.values() for name in names} | {"HF_TOKEN"}


def job(scheme: str, *features: Feature) -> Job:
    info = ProviderInfo("fake", "Fake", "x:Y", features=frozenset(features))
    run = sample_run(store_url=STORES[scheme])
    return job_for(run, sample_attempt(), info, CANARIES, disk_gib=10.0)


@pytest.mark.parametrize("scheme", STORES)
@pytest.mark.parametrize("features", [(), (Feature.SHARES_FILES,)])
def test_no_secret_stands_in_a_command_or_a_plain_variable(
    scheme: str, features: tuple[Feature, ...]
) -> None:
    told = job(scheme, *features)
    plain = " ".join((*told.argv, *told.env.values(), told.store_url, told.image, told.name))
    assert not [name for name in SECRETS if CANARIES[name] in plain]
    assert not [name for name in SECRETS if CANARIES[name] in repr(told)]


@pytest.mark.parametrize("scheme", STORES)
@pytest.mark.parametrize("features", [(), (Feature.SHARES_FILES,)])
def test_no_key_that_rents_goes_to_a_machine(scheme: str, features: tuple[Feature, ...]) -> None:
    told = job(scheme, *features)
    assert not {"RUNPOD_API_KEY", "LAMBDA_API_KEY"} & {*told.env, *told.secrets}


@pytest.mark.parametrize("scheme", STORES)
def test_a_rented_machine_gets_none_of_the_users_credentials(scheme: str) -> None:
    assert job(scheme).secrets == {}


def test_a_machine_that_is_ours_gets_the_rights_to_its_own_store_and_no_other() -> None:
    told = job("s3", Feature.SHARES_FILES)
    assert set(told.secrets) == {*STORE_VARIABLES["s3"], "HF_TOKEN"}


def test_the_machine_is_told_its_attempt_its_time_and_where_its_store_is() -> None:
    told = job("s3")
    assert told.argv == ("python", "-m", "kwanzaa_trainer", "run", "s3://b/r1")
    assert told.env["KWANZAA_ATTEMPT"] == "1"
    assert told.max_hours == sample_attempt().max_hours
    assert told.name == sample_attempt().name


def test_only_a_spot_machine_is_likely_to_be_taken_back() -> None:
    assert interruptions_per_h(sample_attempt(), [], 0.0) == 0.0
    told = job("s3").env["KWANZAA_INTERRUPTIONS_PER_H"]
    assert float(told) == 0.0


def test_what_was_seen_outweighs_what_a_provider_is_known_for() -> None:
    spot = sample_attempt(spot=True, provider="sagemaker")
    known = interruptions_per_h(spot, [], 0.0)
    assert known > 0
    taken = [
        replace(spot, number=n, intended_at=0.0, closed_at=1800.0, fault=Fault.PREEMPTED)
        for n in range(20)
    ]
    calm = [replace(a, fault=Fault.NONE) for a in taken]
    assert interruptions_per_h(spot, taken, 0.0) == pytest.approx(2.0, rel=0.2)
    assert interruptions_per_h(spot, calm, 0.0) < known
    elsewhere = [replace(a, provider="other") for a in taken]
    assert interruptions_per_h(spot, elsewhere, 0.0) == known
