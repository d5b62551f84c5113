"""Two ways to tell somebody: a webhook, and a command of the user's own. Never with a secret in it.

Both are set in the environment and not in training.yaml: a webhook's URL is a secret, and a config
that somebody sent must not run commands here or say what happens here to strangers.
"""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from kwanzaa_compute.config.credentials import looks_like_a_credential, names_a_credential
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.secret import Secret

WEBHOOK = "KWANZAA_WEBHOOK_URL"
COMMAND = "KWANZAA_NOTIFY_COMMAND"
DEADLINE_S = 10.0
"""So long, in seconds, telling may take in all; the run never waits longer."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_MOST_READ = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """What is told. `text` is for people; `facts` are in JSON's types, money in dollars as text."""

    text: str
    facts: Mapping[str, Any]


class Channel(Protocol):
    """One way to tell somebody."""

    @property
    def name(self) -> str:
        """What it is called in the ledger."""

    def tell(self, message: Message) -> str:
        """Tells it; returns why that failed, or "". Neither shows a secret nor raises."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Posts `{"text": ...}`, as Slack and those who follow it want it."""

    url: Secret
    name: str = "webhook"

    def tell(self, message: Message) -> str:
        """One POST; a redirect is not followed, and no more than a kilobyte is read."""
        from http.client import HTTPException
        from urllib.error import HTTPError

        # Slack reads <...> as a command; whatever a machine wrote is shown and not obeyed.
        text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        try:
            self._post(json.dumps({"text": text}).encode())
        except HTTPError as error:
            return f"the webhook answered with HTTP {error.code}"
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            return f"the webhook could not be reached ({type(reason).__name__})"
        except Exception as error:  # noqa: BLE001 -- its text may hold the URL
            return f"the webhook failed ({type(error).__name__})"
        return ""

    def _post(self, body: bytes) -> None:
        from urllib.request import ProxyHandler, Request, build_opener

        url = self.url.reveal()
        request = Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 -- https, or loopback
        here = urlsplit(url).hostname in _LOOPBACK
        opener = build_opener(_no_redirects(), *([ProxyHandler({})] if here else []))
        with opener.open(request, timeout=DEADLINE_S) as answer:
            answer.read(_MOST_READ)


@dataclass(frozen=True, slots=True)
class Command:
    """Runs an argument list without a shell: facts as JSON on stdin, the main ones as variables."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    name: str = "command"

    def tell(self, message: Message) -> str:
        """Runs it; what it prints goes nowhere, and it is killed at the deadline."""
        facts = message.facts
        variables = {f"KWANZAA_{key.upper()}": str(facts[key]) for key in ("event", "run", "state")}
        variables |= {"KWANZAA_USD": str(facts["usd"]), "KWANZAA_MESSAGE": message.text}
        said = json.dumps(dict(facts) | {"text": message.text}).encode()
        try:
            code = self._run(said, {**_without_secrets(self.environment), **variables})
        except subprocess.TimeoutExpired:
            return f"the command did not end within {DEADLINE_S:.0f} s"
        except (OSError, ValueError) as error:
            return f"the command cannot be run ({type(error).__name__})"
        return f"the command ended with code {code}" if code else ""

    def _run(self, said: bytes, environment: Mapping[str, str]) -> int:
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        with subprocess.Popen(
            list(self.argv),
            stdin=pipe,
            stdout=null,
            stderr=null,
            env=environment,
            start_new_session=True,
        ) as child:
            try:
                child.communicate(said, timeout=DEADLINE_S)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)  # and whatever it has started
                raise
            return child.returncode


def channels_in(environment: Mapping[str, str]) -> list[Channel]:
    """The channels that the environment sets. Raises `UsageError`, which echoes no secret."""
    found: list[Channel] = []
    if url := environment.get(WEBHOOK):
        found.append(Webhook(_checked(url)))
    if words := environment.get(COMMAND):
        try:
            argv = shlex.split(words)
        except ValueError as error:
            raise UsageError(
                f"{COMMAND} cannot be split into words: {error}", mend="close its quotes"
            ) from None
        found.append(Command(argv, environment))
    return found


def _checked(url: str) -> Secret:
    parts = urlsplit(url)
    secure = parts.scheme == "https" and parts.hostname
    if secure or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return Secret(url)
    raise UsageError(
        f"{WEBHOOK} is not an https:// address", mend="copy the whole URL that the service shows"
    )


def _no_redirects() -> Any:
    """A redirect would carry the message to somebody whom nobody named."""
    from urllib.request import HTTPRedirectHandler

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_args: Any, **_more: Any) -> None:
            return None

    return Stay()


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name != WEBHOOK and not names_a_credential(name) and not looks_like_a_credential(value)
    }
