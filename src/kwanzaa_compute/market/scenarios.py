"""Budgets, break-even and return on investment, from premises that the caller gives.

Where people count money by hand they round a run's price to cents first and count whole runs:
these functions do the same, so that their figures and ours can be held side by side.
"""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class RunBreakdown:
    """What one run costs by hours and price: the parts, their sum, and the sum in cents."""

    training: Decimal
    validation: Decimal
    experimentation: Decimal
    buffer: Decimal
    storage: Decimal
    network: Decimal

    @property
    def exact(self) -> Decimal:
        """The sum, not rounded."""
        parts = (self.training, self.validation, self.experimentation)
        return sum(parts, Decimal(0)) + self.buffer + self.storage + self.network

    @property
    def usd(self) -> Decimal:
        """The sum in dollars and cents."""
        return cents(self.exact)


def cents(amount: Decimal) -> Decimal:
    """An amount in dollars and cents, half a cent upwards."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def run_breakdown(
    usd_per_hour: Decimal,
    training_h: Decimal,
    *,
    validation_h: Decimal = Decimal(0),
    experimentation_h: Decimal = Decimal(0),
    buffer: Decimal = Decimal(0),
    storage_usd: Decimal = Decimal(0),
    network_usd: Decimal = Decimal(0),
) -> RunBreakdown:
    """One run at a price an hour; `buffer` is a fraction of all its hours' cost."""
    hours = training_h + validation_h + experimentation_h
    return RunBreakdown(
        training_h * usd_per_hour,
        validation_h * usd_per_hour,
        experimentation_h * usd_per_hour,
        hours * usd_per_hour * buffer,
        storage_usd,
        network_usd,
    )


def runs_per_budget(
    budget_usd: Decimal, usd_per_run: Decimal, *, success_rate: Decimal = Decimal(1)
) -> int:
    """Whole runs that a budget pays for, or of those the ones that succeed.

    Raises ValueError for a run that costs nothing, a negative budget, or a rate outside 0 to 1.
    """
    if usd_per_run <= 0 or budget_usd < 0 or not 0 <= success_rate <= 1:
        raise ValueError("needs a price above zero, a budget, and a success rate from 0 to 1")
    runs = (budget_usd / usd_per_run).to_integral_value(ROUND_FLOOR)
    return int((runs * success_rate).to_integral_value(ROUND_FLOOR))


def break_even_usd(usd_per_run: Decimal, success_rate: Decimal) -> Decimal:
    """What a usable adapter must be worth to pay for the runs that fail, in cents.

    Raises ValueError for a rate outside 0 to 1, or of 0.
    """
    if not 0 < success_rate <= 1:
        raise ValueError("a success rate lies above 0 and is at most 1")
    return cents(usd_per_run / success_rate)


@dataclass(frozen=True, slots=True)
class Return:
    """What a budget brings in: usable adapters, their value, the net, and percent for each."""

    runs: int
    adapters: int
    value_usd: Decimal
    net_usd: Decimal
    percent_per_adapter: Decimal


def return_on_investment(
    budget_usd: Decimal, usd_per_run: Decimal, success_rate: Decimal, usd_per_adapter: Decimal
) -> Return:
    """What a budget brings in where a usable adapter is worth so much.

    The whole budget counts as spent. Raises ValueError like `runs_per_budget`.
    """
    runs = runs_per_budget(budget_usd, usd_per_run)
    adapters = runs_per_budget(budget_usd, usd_per_run, success_rate=success_rate)
    value = adapters * usd_per_adapter
    cost = break_even_usd(usd_per_run, success_rate)
    percent = ((usd_per_adapter - cost) / cost * 100).quantize(Decimal(1), ROUND_HALF_UP)
    return Return(runs, adapters, value, value - budget_usd, percent)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A monthly fee that comes with so many hours, used or not."""

    usd_per_month: Decimal
    hours_per_month: Decimal

    @property
    def usd_per_hour(self) -> Decimal:
        """The price of an hour where every one of them is used."""
        return self.usd_per_month / self.hours_per_month

    def runs_per_month(self, hours_per_run: Decimal) -> int:
        """Whole runs that a month's hours hold."""
        whole = (self.hours_per_month / hours_per_run).to_integral_value(ROUND_FLOOR)
        return int(whole)

    def usd_per_run(self, hours_per_run: Decimal, runs: int) -> Decimal:
        """What one of `runs` runs a month costs, in cents: the fee is paid whatever is used.

        Raises ValueError where the month's hours do not hold so many, or none are made.
        """
        if not 0 < runs <= self.runs_per_month(hours_per_run):
            raise ValueError(f"{runs} runs of {hours_per_run} h do not fit into a month's hours")
        return cents(self.usd_per_month / runs)

    def cheaper_from(self, usd_per_run: Decimal) -> int:
        """From how many runs a month it beats paying that much for each."""
        return int((self.usd_per_month / usd_per_run).to_integral_value(ROUND_FLOOR)) + 1
