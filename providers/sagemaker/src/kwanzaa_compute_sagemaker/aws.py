"""Clients of AWS's own SDK, imported at first use, each call under a deadline and never retried.

The SDK would look for credentials in this process's environment, in files and at the address of
EC2's metadata. Here it is given what the driver was given: keys from the context's environment,
or else the profile that this names. It sends nothing to anybody but the service that is asked.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.drivers.deadline import within
from kwanzaa_compute.errors import CredentialsError

if TYPE_CHECKING:
    import boto3
    import botocore.session
    from botocore.client import BaseClient

CONNECT_S, READ_S = 10.0, 30.0
CALL_S = 50.0
"""In all, whatever the socket does; below the minute that the core grants."""
MOST_PAGES = 200
SIMULATED = ("sagemaker", "pricing", "logs")
"""The services that a simulator's endpoint plays itself; AWS's own variables name the rest."""
PRICING_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}
"""The price list is served in three regions; it is the same in each."""


class Aws:
    """One account in one region. Thread-safe; clients are made once."""

    def __init__(
        self, environment: Mapping[str, str], region: str, endpoint: str | None = None
    ) -> None:
        """Reads nothing yet, and asks nobody."""
        self.environment, self.region, self._endpoint = environment, region, endpoint
        self._session: boto3.Session | None = None
        self._clients: dict[str, BaseClient] = {}
        self._lock = threading.Lock()

    def call(
        self, service: str, method: str, total_s: float = CALL_S, /, **words: Any
    ) -> dict[str, Any]:
        """One call. Raises what the SDK raises, `TimeoutError` after `total_s` seconds."""
        client = self.client(service)
        answer: dict[str, Any] = within(
            total_s, lambda: getattr(client, method)(**words), who="AWS"
        )
        return answer

    def pages(self, service: str, method: str, key: str, **words: Any) -> Iterator[Any]:
        """What every page holds under `key`. Raises rather than leave a page out."""
        tokens: set[str] = set()
        for _ in range(MOST_PAGES):
            answer = self.call(service, method, **words)
            yield from answer.get(key) or ()
            token = answer.get("NextToken")
            if not token:
                return
            if token in tokens:
                raise ValueError(f"AWS's list for {method} names the same page twice")
            tokens.add(token)
            words["NextToken"] = token
        raise ValueError(f"AWS's list for {method} does not end after {MOST_PAGES} pages")

    def client(self, service: str) -> "BaseClient":
        """The SDK's client of one service. Raises `CredentialsError` where there is no key."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._made(service)
            return self._clients[service]

    def _made(self, service: str) -> "BaseClient":
        import boto3
        from botocore.config import Config

        if self._session is None:
            given = _session(self.environment, self.region)
            self._session = boto3.Session(botocore_session=given)
        quiet = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": 1},
            proxies=self._proxies(service),
            s3={"addressing_style": "path"} if self._address(service) else {},
            user_agent_appid="kwanzaa-compute",
        )
        region = self.region
        if service == "pricing":
            region = PRICING_REGIONS.get(region.partition("-")[0], "us-east-1")
        return self._session.client(
            service, region_name=region, endpoint_url=self._address(service), config=quiet
        )

    def _address(self, service: str) -> str | None:
        named = self.environment.get(f"AWS_ENDPOINT_URL_{service.upper()}")
        if named or (self._endpoint and service in SIMULATED):
            return named or self._endpoint
        return self.environment.get("AWS_ENDPOINT_URL") or None

    def _proxies(self, service: str) -> dict[str, str] | None:
        """No proxy stands between us and loopback."""
        return {} if (self._address(service) or "").startswith("http://127.") else None


def _session(environment: Mapping[str, str], region: str) -> "botocore.session.Session":
    import botocore.session

    session = botocore.session.Session(profile=environment.get("AWS_PROFILE") or None)
    session.set_config_variable("region", region)
    session.set_config_variable("ignore_configured_endpoint_urls", True)
    for name, variable in (
        ("config_file", "AWS_CONFIG_FILE"),
        ("credentials_file", "AWS_SHARED_CREDENTIALS_FILE"),
    ):
        if environment.get(variable):
            session.set_config_variable(name, environment[variable])
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        session.set_credentials(key, secret, environment.get("AWS_SESSION_TOKEN") or None)
        return session
    chain = session.get_component("credential_provider")
    chain.remove("env")  # this process's environment is not what we were given
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        chain.remove("iam-role")
    if session.get_credentials() is None:
        raise CredentialsError(
            "SageMaker: there are no AWS credentials",
            mend="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            nothing_was_created=True,
        )
    return session
