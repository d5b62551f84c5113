"""The portable face of one driver: what is the same for every provider, written once."""

import os
import threading
from collections.abc import Callable, Iterable
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
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError, UsageError
from kwanzaa_compute.market.offers import Offer

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


class Provider:
    """One provider, as the rest of the library sees it. Whatever it raises is a `ProviderError`."""

    def __init__(
        self, info: ProviderInfo, driver: Driver, clock: Clock, policy: RetryPolicy | None = None
    ) -> None:
        """Wraps `driver`; `policy` defaults to four tries and a minute a call."""
        self.info = info
        self.driver = driver
        self._clock = clock
        self._policy = policy or RetryPolicy()

    @property
    def name(self) -> str:
        """The provider's name on the command line and in the ledger."""
        return self.info.name

    def offers(self) -> tuple[Offer, ...]:
        """Everything for sale now."""
        return self._read("list offers", lambda: tuple(self.driver.offers()))

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
        machine_id = self._once("launch", lambda: self.driver.launch(job, offer))
        if not machine_id:
            raise TransientError(f"{self.name} answered a launch without an id")
        return machine_id

    def inspect(self, machine_id: str) -> Sighting:
        """What one machine is doing."""
        return self._read("inspect", lambda: self.driver.inspect(machine_id))

    def fleet(self) -> tuple[Sighting, ...]:
        """Every machine that bears a name of ours and still exists; a name may occur twice."""
        seen = self._read("list machines", lambda: tuple(self.driver.fleet()))
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
                self._clock.sleep(max(pause, error.retry_after_s or 0.0))
                pause = min(2 * pause, self._policy.longest_pause_s)
        return self._once(what, call)

    def _once(self, what: str, call: Callable[[], T]) -> T:
        try:
            return _within(self._policy.deadline_s, call)
        except ProviderError:
            raise
        except TimeoutError as error:
            raise TransientError(f"{self.name} did not answer in time ({what})") from error
        except Exception as error:
            raise self._classified(what, error) from error

    def _classified(self, what: str, error: Exception) -> ProviderError:
        """What the driver makes of an error; one that it chokes on is ambiguous, never lost."""
        try:
            meaning = self.driver.classify(error)
        except Exception:  # noqa: BLE001 -- somebody else's driver may raise anything
            meaning = None
        if isinstance(meaning, ProviderError):
            return meaning
        return TransientError(f"{self.name} failed ({what}): {type(error).__name__}")


def _within(deadline_s: float | None, call: Callable[[], T]) -> T:
    """Runs a call in a thread that is abandoned after the deadline: no SDK can hold us for ever."""
    if deadline_s is None:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 -- carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(deadline_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
