"""The portable face of one driver: what is the same for every provider, written once."""

import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import (
    Driver,
    Feature,
    Job,
    LogsDriver,
    Phase,
    ProviderInfo,
    Sighting,
    SSHAccess,
    SSHDriver,
)
from kwanzaa_compute.drivers.deadline import within
from kwanzaa_compute.drivers.replies import (
    UnsoundReplyError,
    sound_id,
    sound_listing,
    sound_offers,
    sound_sighting,
)
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError, UsageError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret, without

T = TypeVar("T")

ALLOW_SPENDING = os.environ.get("KWANZAA_SPENDING") != "never"
"""Where it is False, nothing that costs money is launched. Terminating is never forbidden."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How reads and terminations are repeated; a launch never is.

    `attempts` in all, with pauses in seconds that double from `first_pause_s`; each call is
    given up after `deadline_s` seconds (None: the driver is trusted to return).
    """

    attempts: int = 4
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0
    deadline_s: float | None = 60.0


LONGEST_WAIT_S = 60.0
"""Where a provider asks for a longer pause, a read is given up: the next look asks again."""
LONGEST_MESSAGE = 2000


class Provider:
    """One provider, as the rest of the library sees it. Whatever it raises is a `ProviderError`."""

    def __init__(
        self,
        info: ProviderInfo,
        driver: Driver,
        clock: Clock,
        policy: RetryPolicy | None = None,
        *,
        secrets: Collection[Secret] = (),
    ) -> None:
        """Wraps `driver`; `policy` defaults to four tries and a minute a call.

        `secrets` are the driver's credentials: none of them is left in an error that comes out.
        """
        self.info = info
        self.driver = driver
        self._clock = clock
        self._policy = policy or RetryPolicy()
        self._secrets = tuple(secrets)

    @property
    def name(self) -> str:
        """The provider's name on the command line and in the ledger."""
        return self.info.name

    def offers(self) -> tuple[Offer, ...]:
        """Everything for sale now."""
        return self._read("list offers", lambda: sound_offers(self.driver.offers(), self.name))

    def launch(self, job: Job, offer: Offer) -> str:
        """Asks for one machine and returns its id. Called once a name: never repeated.

        Where it raises an error without `nothing_was_created`, the machine may exist: look for
        `job.name` in `fleet()` until the settle window has passed.
        """
        if not ALLOW_SPENDING and not (offer.own_machine or self.info.simulated):
            raise InvalidRequestError(
                f"spending is switched off; nothing was launched on {self.name}",
                nothing_was_created=True,
            )
        return self._once("launch", lambda: sound_id(self.driver.launch(job, offer)))

    def inspect(self, machine_id: str) -> Sighting:
        """What one machine is doing."""
        return self._read("inspect", lambda: sound_sighting(self.driver.inspect(machine_id)))

    def fleet(self) -> tuple[Sighting, ...]:
        """Every machine that bears a name of ours and still exists; a name may occur twice."""
        seen = self._read("list machines", lambda: sound_listing(self.driver.fleet()))
        return tuple(s for s in seen if s.phase is not Phase.GONE)

    def terminate(self, machine_id: str) -> None:
        """Asks for the machine's end. Its absence is only proven by `fleet()`."""
        self._read("terminate", lambda: self.driver.terminate(machine_id))

    def logs(self, machine_id: str) -> Iterable[str]:
        """The machine's output so far; `UsageError` where the provider has none to show."""
        if Feature.LOGS not in self.driver.features:
            raise UsageError(
                f"{self.name} shows no logs of its machines",
                mend=f"look at its console {self.info.console_url}".rstrip(),
            )
        return self._read("logs", lambda: tuple(cast(LogsDriver, self.driver).logs(machine_id)))

    def ssh(self, machine_id: str) -> SSHAccess | None:
        """How to log in to a machine; None while it cannot be reached yet.

        Raises `UsageError` where the provider gives no way in whose host key is known before.
        """
        if Feature.SSH not in self.driver.features:
            raise UsageError(
                f"{self.name} gives no SSH to its machines whose host key is known beforehand",
                mend=f"look at its console {self.info.console_url}".rstrip(),
            )
        return self._read("ssh", lambda: cast(SSHDriver, self.driver).ssh(machine_id))

    def _read(self, what: str, call: Callable[[], T]) -> T:
        pause = self._policy.first_pause_s
        for _ in range(self._policy.attempts - 1):
            try:
                return self._once(what, call)
            except TransientError as error:
                wait_s = error.retry_after_s or 0.0
                if wait_s > LONGEST_WAIT_S:
                    raise  # whoever asked has other things to see to meanwhile
                self._clock.sleep(max(pause, wait_s))
                pause = min(2 * pause, self._policy.longest_pause_s)
        return self._once(what, call)

    def _once(self, what: str, call: Callable[[], T]) -> T:
        cause: BaseException | None = None
        try:
            limit_s = self._policy.deadline_s
            return call() if limit_s is None else within(limit_s, call)
        except TimeoutError:
            told: ProviderError = TransientError(f"{self.name} did not answer in time ({what})")
        except UnsoundReplyError as error:
            told = TransientError(f"{self.name} sent what makes no sense ({what}): {error}")
        except ProviderError as error:
            told, cause = error, error.__cause__
        except Exception as error:  # noqa: BLE001 -- SDKs raise anything
            told, cause = self._classified(what, error), error
        raise self._safe(told) from (None if self._tells(cause) else cause)

    def _classified(self, what: str, error: Exception) -> ProviderError:
        """What the driver makes of an error; one that it chokes on is ambiguous, never lost."""
        try:
            meaning = self.driver.classify(error)
        except Exception:  # noqa: BLE001 -- somebody else's driver may raise anything
            meaning = None
        if isinstance(meaning, ProviderError):
            return meaning
        return TransientError(f"{self.name} failed ({what}): {type(error).__name__}")

    def _safe(self, error: ProviderError) -> ProviderError:
        """The error without our credentials, and without claims that make no sense."""
        said = without(self._secrets, str(error.message))[:LONGEST_MESSAGE]
        error.message = said if said.strip() else f"{self.name} failed without a word"
        error.mend = without(self._secrets, str(error.mend))[:LONGEST_MESSAGE]
        error.args = (error.message,)
        error.nothing_was_created = error.nothing_was_created is True
        after = error.retry_after_s
        if type(after) not in {int, float} or not 0 <= after < math.inf:  # type: ignore[operator]
            error.retry_after_s = None
        return error

    def _tells(self, cause: BaseException | None) -> bool:
        """Whether an SDK's own error holds a credential, in a text that a traceback would show."""
        words = f"{cause!s} {cause!r}"
        return without(self._secrets, words) != words
