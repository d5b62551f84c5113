"""Azure's directory, as far as a sign-in with a secret goes: a token for a while, or AADSTS..."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute_azureml.simulated.account import TENANT, Account

TOKEN_S = 3599


class Entra:
    """Gives out tokens, and knows the ones that hold."""

    def __init__(self, account: Account, url: Callable[[], str], now: Callable[[], float]) -> None:
        """`url` is where it listens."""
        self._account, self._url, self._now = account, url, now
        self._tokens: dict[str, float] = {}

    def handles(self, request: Request) -> bool:
        """Whether a request is for the directory."""
        return request.path.endswith(("/openid-configuration", "/oauth2/v2.0/token"))

    def handle(self, request: Request) -> Reply:
        """One call."""
        tenant = request.path.split("/")[1]
        if tenant != TENANT:
            return _refused(400, "AADSTS90002", f"Tenant '{tenant}' not found", "invalid_request")
        if request.method == "GET":
            return Reply(200, self._configuration(f"{self._url()}/{tenant}"))
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        client = form.get("client_id", "")
        if client not in self._account.secrets:
            words = f"Application with identifier '{client}' was not found in the directory"
            return _refused(400, "AADSTS700016", words, "unauthorized_client")
        if client in self._account.expired:
            words = f"The provided client secret keys for app '{client}' are expired"
            return _refused(401, "AADSTS7000222", words, "invalid_client")
        if form.get("client_secret") != self._account.secrets[client]:
            return _refused(401, "AADSTS7000215", "Invalid client secret", "invalid_client")
        token = {"token_type": "Bearer", "expires_in": TOKEN_S, "access_token": self.token()}
        return Reply(200, token)

    def believes(self, token: str) -> bool:
        """Whether a token was given out here, and holds still."""
        return self._tokens.get(token, 0.0) > self._now()

    def token(self) -> str:
        """A new token that holds for an hour."""
        parts = ({"alg": "none"}, {"tid": TENANT, "jti": secrets.token_urlsafe(24)})
        token = ".".join([*map(_part, parts), ""])
        self._tokens[token] = self._now() + TOKEN_S
        return token

    @staticmethod
    def _configuration(base: str) -> dict[str, Any]:
        return {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        }


def _part(claims: Mapping[str, str]) -> str:
    """A part of a JWT: the SDK reads the tenant from it, and nobody a signature."""
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def _refused(status: int, code: str, words: str, error: str) -> Reply:
    said = f"{code}: {words}. Trace ID: simulated"
    number = int(code.removeprefix("AADSTS"))
    return Reply(status, {"error": error, "error_description": said, "error_codes": [number]})
