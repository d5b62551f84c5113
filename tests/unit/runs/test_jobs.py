"""What a machine is told: the same command everywhere, and never a secret in it."""

import json
from dataclasses import replace

import pytest

from kwanzaa_compute.drivers.contract import Feature, Job, ProviderInfo
from kwanzaa_compute.errors import CredentialsError, StoreError
from kwanzaa_compute.runs.interruptions import interruptions_per_h
from kwanzaa_compute.runs.jobs import LOADER, OWN_VARIABLES, job_for
from kwanzaa_compute.runs.records import Fault, RunRecord
from kwanzaa_compute.store import Store
from kwanzaa_compute.store.grants import ADDRESSES
from kwanzaa_compute.testing import MemoryStore
from kwanzaa_compute.testing.samples import sample_attempt, sample_offer, sample_run

STORES = {"file": "file:///runs/r1", "s3": "s3://b/r1", "gs": "gs://b/r1", "az": "az://b/r1"}
LIMITED = ("KWANZAA_STORE_KEY_ID", "KWANZAA_STORE_SECRET_KEY", "KWANZAA_STORE_SAS")
RENTS = {"RUNPOD_API_KEY", "LAMBDA_API_KEY", "WANDB_API_KEY"}
ASKED = {"KWANZAA_MODEL_TOKEN", "KWANZAA_WANDB_API_KEY"}
OWN = {name for names in OWN_VARIABLES.values() for name in names}
PLAIN = {name for names in ADDRESSES.values() for name in names}
CANARIES = {
    name: f"canary-{name.lower()}"
    for name in sorted({*ASKED, "HF_TOKEN", *RENTS, *OWN, *PLAIN, *LIMITED})
}
CANARIES["KWANZAA_STORE_SAS"] = "sr=c&sig=canary-kwanzaa_store_sas"  # it has a form to keep
SECRETS = {*OWN, *LIMITED, *RENTS, *ASKED, "HF_TOKEN"}


def store_with_code() -> Store:
    store = MemoryStore()
    store.put("code/abc123.zip", b"code")
    return store


def job(
    scheme: str, *features: Feature, store: Store | None = None, run: RunRecord | None = None
) -> Job:
    info = ProviderInfo("fake", "Fake", "x:Y", features=frozenset(features))
    return job_for(
        replace(run or sample_run(), store_url=STORES[scheme]),
        sample_attempt(),
        info,
        CANARIES,
        offer=sample_offer(),
        disk_gib=10.0,
        store=store or store_with_code(),
        now=0.0,
    )


RIGHTS = [
    pytest.param("file", (), id="file"),
    pytest.param("s3", (), id="s3"),
    pytest.param("az", (), id="az"),
    *(pytest.param(scheme, (Feature.SHARES_FILES,), id=f"{scheme}-here") for scheme in STORES),
    pytest.param("s3", (Feature.STORE_ROLE,), id="s3-role"),
]


@pytest.mark.parametrize(("scheme", "features"), RIGHTS)
def test_no_secret_stands_in_a_command_or_a_plain_variable(
    scheme: str, features: tuple[Feature, ...]
) -> None:
    told = job(scheme, *features)
    plain = " ".join((*told.argv, *told.env.values(), told.store_url, told.image, told.name))
    assert not [name for name in SECRETS if CANARIES[name] in plain]
    assert not [name for name in SECRETS if CANARIES[name] in repr(told)]


@pytest.mark.parametrize(("scheme", "features"), RIGHTS)
def test_no_key_that_rents_goes_to_a_machine(scheme: str, features: tuple[Feature, ...]) -> None:
    told = job(scheme, *features)
    sent = {secret.reveal() for secret in told.secrets.values()} | set(told.env.values())
    assert not [name for name in RENTS if CANARIES[name] in sent]


@pytest.mark.parametrize(("scheme", "features"), [("s3", ()), ("az", ()), ("file", ())])
def test_a_rented_machine_gets_none_of_the_users_own_credentials(
    scheme: str, features: tuple[Feature, ...]
) -> None:
    sent = {secret.reveal() for secret in job(scheme, *features).secrets.values()}
    assert not [name for name in (*OWN, "HF_TOKEN") if CANARIES[name] in sent]


def test_a_rented_machine_gets_the_limited_right_that_the_user_made() -> None:
    sent = {name: secret.reveal() for name, secret in job("s3").secrets.items()}
    assert sent["AWS_ACCESS_KEY_ID"] == CANARIES["KWANZAA_STORE_KEY_ID"]
    assert sent["AWS_SECRET_ACCESS_KEY"] == CANARIES["KWANZAA_STORE_SECRET_KEY"]
    assert sent["HF_TOKEN"] == CANARIES["KWANZAA_MODEL_TOKEN"]


@pytest.mark.parametrize(("scheme", "features"), RIGHTS)
def test_the_key_of_a_tracker_reaches_only_machines_of_runs_that_report_there(
    scheme: str, features: tuple[Feature, ...]
) -> None:
    """And only the one that was set for machines, never the user's own."""
    config = {"model": {"base_model_id": "a/b"}, "data": {"train_file": "t.jsonl"}}
    for wanted in (False, True):
        asked = {**config, "monitoring": {"wandb": {"enabled": wanted}}}
        told = job(scheme, *features, run=sample_run(config=json.dumps(asked)))
        assert ("WANDB_API_KEY" in told.secrets) is wanted
        held = "".join((*told.argv, *told.env.values(), repr(told)))
        assert CANARIES["KWANZAA_WANDB_API_KEY"] not in held
        rented = Feature.SHARES_FILES not in features
        assert ("KWANZAA_EXTRAS" in told.env) is (wanted and rented)
    assert told.secrets["WANDB_API_KEY"].reveal() == CANARIES["KWANZAA_WANDB_API_KEY"]


def test_a_machine_with_a_role_of_its_own_gets_no_key_to_the_store() -> None:
    assert set(job("s3", Feature.STORE_ROLE).secrets) == {"HF_TOKEN", "KWANZAA_CODE_URL"}


def test_a_store_without_narrow_rights_is_refused_for_rented_machines() -> None:
    with pytest.raises(CredentialsError, match="narrow enough"):
        job("gs")


def test_a_machine_that_is_ours_gets_the_rights_to_its_own_store_and_no_other() -> None:
    told = job("s3", Feature.SHARES_FILES)
    assert set(told.secrets) == {*OWN_VARIABLES["s3"], "HF_TOKEN"}


def test_a_rented_machine_is_told_what_to_fetch_and_what_it_should_be() -> None:
    told = job("s3")
    assert told.argv == ("python3", "-c", LOADER, "run", "s3://b/r1")
    assert told.env["KWANZAA_ATTEMPT"] == "1"
    assert told.env["KWANZAA_CODE_SHA256"] == "abc123"
    assert float(told.env["KWANZAA_MAX_S"]) == told.max_hours * 3600
    assert told.secrets["KWANZAA_CODE_URL"].reveal().endswith("code/abc123.zip")
    assert json.loads(told.env["KWANZAA_EXPECTED"])["gpu"] == "L4"
    assert told.max_hours == sample_attempt().max_hours
    assert told.name == sample_attempt().name


def test_a_run_without_code_in_its_store_is_not_launched() -> None:
    with pytest.raises(StoreError, match="no code"):
        job("s3", store=MemoryStore())


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
