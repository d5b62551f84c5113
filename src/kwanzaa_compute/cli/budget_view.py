"""What a budget brings: runs, usable adapters, break-even, return, and a monthly fee beside it."""

from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from kwanzaa_compute.cli.plan_view import machine
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import many, usd
from kwanzaa_compute.compute import Planned
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.scenarios import (
    Subscription,
    break_even_usd,
    return_on_investment,
    runs_per_budget,
)


@dataclass(frozen=True, slots=True)
class Money:
    """What was asked about money: a budget, the premises of success, and a monthly fee."""

    budget: Decimal | None
    success_rate: Decimal = Decimal(1)
    adapter_usd: Decimal | None = None
    subscription: Subscription | None = None

    @classmethod
    def checked(
        cls,
        budget: Decimal | None,
        success_rate: Decimal,
        adapter_usd: Decimal | None,
        subscription: str | None,
    ) -> "Money":
        """Raises `UsageError` for premises that make no sense."""
        if not (success_rate.is_finite() and 0 < success_rate <= 1):
            raise UsageError("a success rate lies above 0 and is at most 1", mend="0.8 is 80 %")
        if adapter_usd is not None and not (adapter_usd.is_finite() and adapter_usd >= 0):
            raise UsageError(
                "--adapter-usd takes an amount of dollars",
                mend="a number such as --adapter-usd 100",
            )
        fee = None if subscription is None else _subscription(subscription)
        return cls(budget, success_rate, adapter_usd, fee)


def _subscription(text: str) -> Subscription:
    try:
        fee, hours = map(Decimal, text.removeprefix("$").split("/"))
    except (ValueError, InvalidOperation):
        fee = hours = Decimal(0)
    if not (fee.is_finite() and hours.is_finite() and fee > 0 and hours > 0):
        raise UsageError(
            f"{text!r} is no monthly fee with its hours", mend="--subscription 49.99/100"
        )
    return Subscription(fee, hours)


def budget_document(planned: Planned, money: Money) -> dict[str, Any] | None:
    """The budget in JSON's terms; None where none was given or nothing fits."""
    best = planned.plan.best
    if money.budget is None or best is None:
        return None
    document: dict[str, Any] = {"usd": money.budget, "runs": None}
    if best.usd.expected > 0:
        run, rate = best.usd.expected, money.success_rate
        document |= {
            "runs": runs_per_budget(money.budget, run),
            "success_rate": rate,
            "adapters": runs_per_budget(money.budget, run, success_rate=rate),
            "break_even_usd": break_even_usd(run, rate),
        }
        if money.adapter_usd is not None and break_even_usd(run, rate) > 0:
            document["return"] = asdict(
                return_on_investment(money.budget, run, rate, money.adapter_usd)
            )
    return document


def show_budget(screen: Screen, planned: Planned, money: Money) -> None:
    """How many runs a budget pays for on the best candidate, and what comes of them."""
    best = planned.plan.best
    if best is None:
        return
    if money.budget is not None:
        _show_runs(screen, best, planned, money)
    if money.subscription is not None:
        _show_subscription(screen, best, money.subscription)


def _show_runs(screen: Screen, best: Candidate, planned: Planned, money: Money) -> None:
    counted = budget_document(planned, money) or {}
    budget = money.budget or Decimal(0)
    if best.usd.expected <= 0:
        screen.write(f"\n{usd(budget)}: this machine is free, as many runs as you like")
        return
    worst = int(budget // best.usd.worst) if best.usd.worst else 0
    screen.write(
        f"\n{usd(budget)} pays for {many(counted['runs'], 'run')}"
        f" on {best.offer.provider} {machine(best.offer)}, {worst:,} if each costs the worst"
    )
    if money.success_rate < 1:
        screen.write(
            f"  {money.success_rate:.0%} succeed: {many(counted['adapters'], 'usable adapter')};"
            f" one must be worth {usd(counted['break_even_usd'])} to break even"
        )
    if "return" in counted:
        value = counted["return"]
        screen.write(
            f"  worth {usd(money.adapter_usd)} each: {usd(value['value_usd'])} in all,"
            f" {usd(value['net_usd'])} after the budget;"
            f" {value['percent_per_adapter']:,} % on each"
        )


def _show_subscription(screen: Screen, best: Candidate, fee: Subscription) -> None:
    """The fee is paid whatever is used; the hours are those of the best candidate's machine."""
    per_run = Decimal(str(round(best.billed_hours, 6))) or Decimal("0.000001")
    room = fee.runs_per_month(per_run)
    text = (
        f"\n{usd(fee.usd_per_month)} a month for {fee.hours_per_month:g} h: {usd(fee.usd_per_hour)}"
        f" an hour if all are used; room for {many(room, 'run')} as long as on the best machine"
    )
    if best.usd.expected > 0:
        least = fee.cheaper_from(best.usd.expected)
        text += (
            f"; cheaper from {many(least, 'run')} a month" if least <= room else "; never cheaper"
        )
    screen.write(text)
