"""A machine's right to its run's folder: narrow, ending by itself, or refused with a way out."""

import base64
import hmac
from urllib.parse import parse_qs

import pytest

from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.store.grants import grant, grant_hours
from kwanzaa_compute.store.sas import Right, sign
from kwanzaa_compute.store.sts import folder_policy

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
OWN_AWS = {"AWS_ACCESS_KEY_ID": "AKIAOWN", "AWS_SECRET_ACCESS_KEY": "own"}
LIMITED_AWS = {"KWANZAA_STORE_KEY_ID": "AKIALIMITED", "KWANZAA_STORE_SECRET_KEY": "limited"}
SAS = "sv=2024-11-04&sr=c&sp=racwdl&sig=x"
"""Without an end."""
AZURE = {
    "AZURE_STORAGE_ACCOUNT_NAME": "account",
    "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"0123456789abcdef").decode(),
}


@pytest.mark.parametrize(
    ("url", "environment", "hours"),
    [
        ("file:///runs/r1", {}, None),
        ("s3://b/r1", OWN_AWS, 12.0),
        ("s3://b/r1", {**OWN_AWS, **LIMITED_AWS}, None),
        ("az://c/r1", AZURE, None),
        ("az://c/r1", {"KWANZAA_STORE_SAS": "sv=1&sr=c&si=a-policy&sig=x"}, None),
        ("az://c/r1", {"KWANZAA_STORE_SAS": f"{SAS}&se=2023-11-15T00:13:20Z"}, 1.5),
        ("az://c/r1", {"KWANZAA_STORE_SAS": f"?{SAS}&se=2023-11-16"}, 25.277777777777779),
    ],
)
def test_how_long_a_right_can_hold(
    url: str, environment: dict[str, str], hours: float | None
) -> None:
    assert grant_hours(url, environment, now=NOW) == hours


@pytest.mark.parametrize("url", ["gs://b/r1", "az://c/r1"])
def test_where_no_right_can_be_made_it_is_said_what_to_do(url: str) -> None:
    with pytest.raises(CredentialsError, match="narrow enough") as caught:
        grant_hours(url, {}, now=NOW)
    assert caught.value.mend


def test_a_right_that_would_end_too_soon_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(CredentialsError, match="ends after 12 h") as caught:
        grant("s3://b/r1", OWN_AWS, hours=13.0, now=0.0)
    assert "KWANZAA_STORE_KEY_ID" in caught.value.mend


def test_temporary_keys_are_not_narrowed_without_a_role() -> None:
    with pytest.raises(CredentialsError, match="without a role") as caught:
        grant("s3://b/r1", {**OWN_AWS, "AWS_SESSION_TOKEN": "t"}, hours=1.0, now=0.0)
    assert "KWANZAA_STORE_ROLE_ARN" in caught.value.mend


def test_the_policy_names_the_folder_and_nothing_above_it() -> None:
    objects, listing = folder_policy("s3://bucket/runs/r1")["Statement"]  # type: ignore[misc]
    assert objects["Resource"] == "arn:aws:s3:::bucket/runs/r1/*"
    assert listing["Resource"] == "arn:aws:s3:::bucket"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["runs/r1", "runs/r1/*"]}}
    assert not [action for action in objects["Action"] if action.endswith("*")]


def test_an_azure_right_is_signed_with_the_accounts_key_and_ends() -> None:
    made = grant("az://c/r1", AZURE, hours=2.0, now=1_700_000_000.0)
    fields = parse_qs(made.secrets["AZURE_STORAGE_SAS_TOKEN"].reveal())
    assert fields["sr"] == ["c"]
    assert fields["se"] == ["2023-11-15T00:43:20Z"]
    assert made.variables == {"AZURE_STORAGE_ACCOUNT_NAME": "account"}
    key = AZURE["AZURE_STORAGE_ACCOUNT_KEY"]
    lines = [fields["sp"][0], fields["st"][0], fields["se"][0], "/blob/account/c"]
    text = "\n".join([*lines, "", "", "https", fields["sv"][0], "c", *[""] * 7])
    expected = hmac.digest(base64.b64decode(key), text.encode(), "sha256")
    assert base64.b64decode(fields["sig"][0]) == expected


def test_an_account_key_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(CredentialsError, match="not what Azure gives out"):
        sign(Right("c", "/blob/a/c", "r"), "not base64!", ("s", "e"))


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (f"{SAS}&se=2023-11-14T22:00:00Z", "ran out at 2023-11-14T22:00:00Z"),
        (f"{SAS}&se=2023-11-14T22:20:00Z", "runs out at 2023-11-14T22:20:00Z"),
        (f"{SAS}&se=soon", "no SAS token"),
        ("sr=c&sp=racwdl&se=2030-01-01", "no SAS token"),
        ("sr=c&sp=rl&se=2030-01-01&sig=x", "lacks the permissions c, d, w"),
        ("sr=b&sp=racwdl&se=2030-01-01&sig=x", "not for a container"),
    ],
)
def test_a_signature_of_the_users_that_will_not_do_is_refused_before_anything_is_bought(
    token: str, said: str
) -> None:
    with pytest.raises(CredentialsError, match=said) as caught:
        grant_hours("az://c/r1", {"KWANZAA_STORE_SAS": token}, now=NOW)
    assert "KWANZAA_STORE_SAS" in caught.value.mend
    assert "sig=x" not in str(caught.value)


def test_a_signature_of_the_users_that_ends_before_the_run_is_refused() -> None:
    environment = {"KWANZAA_STORE_SAS": f"{SAS}&se=2023-11-15T00:13:20Z"}
    assert grant("az://c/r1", environment, hours=1.0, now=NOW).hours == 1.5
    with pytest.raises(CredentialsError, match=r"ends after 1\.5 h"):
        grant("az://c/r1", environment, hours=2.0, now=NOW)


def test_a_right_is_never_shown() -> None:
    assert "limited" not in repr(grant("s3://b/r1", LIMITED_AWS, hours=1.0, now=0.0))
