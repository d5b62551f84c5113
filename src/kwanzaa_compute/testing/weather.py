"""What a simulated cloud may be told to do: its places, its weather, its faults, its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from kwanzaa_compute.market.offers import Offer

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Weather:
    """How a cloud behaves when nothing goes wrong. Times in seconds, ranges as (least, most)."""

    latency_s: Range = (0.0, 0.0)
    boot_s: Range = (30.0, 30.0)
    """From the create to the first instruction of the command: allocation and image pull."""
    ending_s: Range = (0.0, 0.0)
    """From a terminate to the end of the machine and its billing."""
    works_while_ending: float = 0.0
    """Probability that a machine's command goes on until its end is there, and may even finish."""
    list_lag_s: float = 0.0
    """A new machine may be invisible for so long, and an ended one be shown for so long."""
    preempted_every_s: float = 0.0
    """Mean time between preemptions of a spot machine; zero: never."""
    preempted_stays: float = 0.0
    """Probability that a preempted machine stays, stopped, and bills its disk."""
    price_moves: float = 0.0
    """Largest relative change of a price in each hour."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What may go wrong, each as a probability for each call, and how long a time-out takes."""

    create_errors_before: float = 0.0
    create_errors_after: float = 0.0
    """A server error, although the machine was created and bills."""
    create_times_out_before: float = 0.0
    create_times_out_after: float = 0.0
    create_lands_late: float = 0.0
    """The call times out, and the machine is created up to `list_lag_s` / 2 later."""
    create_twice: float = 0.0
    """One call creates two machines of the same name."""
    rate_limited: float = 0.0
    sold_out: float = 0.0
    list_errors: float = 0.0
    list_times_out: float = 0.0
    list_blinks: float = 0.0
    """A machine that was listed before is invisible again, for at most `list_lag_s`."""
    list_outage_s: float = 0.0
    """Once listing has failed, it may go on failing for so long."""
    inspect_errors: float = 0.0
    terminate_errors_before: float = 0.0
    terminate_errors_after: float = 0.0
    terminate_outage_s: float = 0.0
    """Once a terminate has failed, every one may go on failing for so long."""
    terminate_lies: float = 0.0
    """The answer is success, and nothing happens."""
    timeout_s: float = 30.0
    retry_after_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Trace:
    """When a place had spot capacity: one value for each `step_s` seconds from the start.

    After its last value it begins again.
    """

    available: Sequence[bool]
    step_s: float = 60.0

    def at(self, elapsed_s: float) -> bool:
        """Whether there is capacity so many seconds after the start."""
        return bool(self.available[int(elapsed_s // self.step_s) % len(self.available)])

    def next_outage(self, elapsed_s: float) -> float | None:
        """When capacity ends next, in seconds after the start; None: never."""
        first = int(elapsed_s // self.step_s)
        for index in range(first, first + len(self.available) + 1):
            if not self.available[index % len(self.available)]:
                return max(elapsed_s, index * self.step_s)
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """One offer in one region: how many machines it has (None: any number), and when."""

    offer: Offer
    capacity: int | None = None
    trace: Trace | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The offer's id and its region."""
        return self.offer.id, self.offer.region


class SimError(Exception):
    """What a simulated cloud answers when it does not do what it was asked."""


class SoldOutError(SimError):
    """No capacity; nothing was created."""


class RateLimitedError(SimError):
    """Too many requests; nothing was done."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many requests, try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class UnknownOfferError(SimError):
    """There is no such offer; nothing was created."""


class ServerError(SimError):
    """Something broke; what was asked may have been done or not."""


class TimedOutError(SimError):
    """No answer came; what was asked may have been done or not."""
