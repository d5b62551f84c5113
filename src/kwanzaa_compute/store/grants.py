"""`StoreGrant`: a machine's right to one run's folder, and to nothing else.

A machine may be lost to a stranger, so it never gets the user's own keys. Where storage knows a
way, a right is made that is limited to the folder and ends by itself; where it knows none, the
user makes a limited key once and names it.

| store | what the machine gets | ends after |
|---|---|---|
| `file://` | nothing: it shares our disk | - |
| `s3://` | your `KWANZAA_STORE_KEY_ID` and `KWANZAA_STORE_SECRET_KEY`, limited by you | never |
| `s3://` | else temporary keys from STS, with a policy for the folder alone | 12 h |
| `az://` | your `KWANZAA_STORE_SAS`, limited by you | what it says |
| `az://` | else a signature for the container, made from the account's key | the run |
| `hf://buckets` | the S3 keys of a token that you limited to the bucket | never |
| `hf://datasets` | your `KWANZAA_STORE_TOKEN`, limited by you to the repository | never |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kwanzaa_compute.errors import CredentialsError
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import hf, hf_git, sas

Environment = Mapping[str, str]
MOST_STS_HOURS = 12.0
MARGIN_HOURS = 0.5
"""A right outlives its machine by so much: the last checkpoint is saved at the very end."""

ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "s3": ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP"),
    "hf": (hf.ENDPOINT, "HF_ENDPOINT"),
}
"""What else a machine must know of a store, none of it secret."""


@dataclass(frozen=True, slots=True)
class StoreGrant:
    """Variables for a machine's environment, and for how many hours the right in them holds.

    `hours` None: as long as somebody does not take it back.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    hours: float | None = None


def grant_hours(store_url: str, environment: Environment, *, now: float) -> float | None:
    """For how many hours from `now` a right to this store can be had; None: for any number.

    Makes nothing and asks nobody. Raises `CredentialsError`, which names what to create, where
    no right can be made at all.
    """
    return _maker(store_url, environment, now)[1]


def grant(store_url: str, environment: Environment, *, hours: float, now: float) -> StoreGrant:
    """Makes a right to the folder at `store_url` that holds for `hours` from `now`, and a margin.

    May ask the storage provider. Raises `CredentialsError` where it cannot be made or would end
    too soon.
    """
    make, most = _maker(store_url, environment, now)
    if most is not None and hours > most:
        raise CredentialsError(
            f"a temporary right to {store_url} ends after {most:.3g} h, and this run may take"
            f" {hours:g} h",
            mend=_LIMITED_KEY[urlsplit(store_url).scheme],
        )
    made = make(store_url, environment, hours + MARGIN_HOURS, now)
    return StoreGrant({**addresses(store_url, environment), **made.variables}, made.secrets, most)


_LIMITED_KEY = {
    "s3": "create an access key that may use the bucket's folder only, and set KWANZAA_STORE_KEY_ID"
    " and KWANZAA_STORE_SECRET_KEY to it",
    "az": sas.HOW_TO_MAKE_ONE,
}
Maker = Callable[[str, Environment, float, float], StoreGrant]


def _maker(store_url: str, environment: Environment, now: float) -> tuple[Maker, float | None]:
    scheme = urlsplit(store_url).scheme
    match scheme:
        case "file" | "memory":
            return _nothing, None
        case "s3" if environment.get("KWANZAA_STORE_KEY_ID"):
            return _limited_key, None
        case "s3":
            from kwanzaa_compute.store import sts

            return sts.grant, MOST_STS_HOURS
        case "az" if token := environment.get("KWANZAA_STORE_SAS"):
            left = sas.hours_left(token, now, margin_hours=MARGIN_HOURS)
            return _limited_sas, left
        case "az" if environment.get("AZURE_STORAGE_ACCOUNT_KEY"):
            return _signature, None
        case "hf" if store_url.startswith("hf://datasets/"):
            hf_git.token(environment)
            return _git_token, None
        case "hf":
            hf.keys(environment)
            return _bucket_keys, None
    raise CredentialsError(
        f"no right to {scheme}:// can be made that is narrow enough for a rented machine",
        mend=_LIMITED_KEY.get(scheme, "choose another --store: s3://, az:// or hf://"),
    )


def _nothing(_url: str, _environment: Environment, _hours: float, _now: float) -> StoreGrant:
    return StoreGrant()


def _limited_key(_url: str, environment: Environment, _hours: float, _now: float) -> StoreGrant:
    return StoreGrant(
        secrets={
            "AWS_ACCESS_KEY_ID": Secret(environment["KWANZAA_STORE_KEY_ID"]),
            "AWS_SECRET_ACCESS_KEY": Secret(environment.get("KWANZAA_STORE_SECRET_KEY", "")),
        }
    )


def _limited_sas(_url: str, environment: Environment, _hours: float, _now: float) -> StoreGrant:
    return StoreGrant(secrets={"AZURE_STORAGE_SAS_TOKEN": Secret(environment["KWANZAA_STORE_SAS"])})


def _signature(url: str, environment: Environment, hours: float, now: float) -> StoreGrant:
    token = sas.for_container(url, environment, hours, now)
    return StoreGrant(secrets={"AZURE_STORAGE_SAS_TOKEN": token})


def _git_token(_url: str, environment: Environment, _hours: float, _now: float) -> StoreGrant:
    return StoreGrant(secrets={hf_git.TOKEN: hf_git.token(environment)})


def _bucket_keys(_url: str, environment: Environment, _hours: float, _now: float) -> StoreGrant:
    return StoreGrant(secrets=hf.keys(environment))


def addresses(store_url: str, environment: Environment) -> dict[str, str]:
    """What else a machine must know to reach a store; nothing of it is secret."""
    names = ADDRESSES.get(urlsplit(store_url).scheme, ())
    return {name: environment[name] for name in names if name in environment}
