"""Applying a saved plan: the same offer is asked for its price again, and weighed again."""

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.compute.planning import Options, Planned, load_with, plan_run
from kwanzaa_compute.config import LoadedConfig
from kwanzaa_compute.errors import BudgetError, NothingFitsError, TransientError, UsageError
from kwanzaa_compute.market.candidates import Candidate, Reason
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.plan import Plan

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

_AGAIN = "make the plan again: kwanzaa plan CONFIG --save FILE"


@dataclass(frozen=True, slots=True)
class Applied:
    """A saved plan at today's prices: `planned` has its best offer alone, `saved` is what it was.

    `saved_at` is in seconds since the epoch, or None.
    """

    planned: Planned
    saved: Candidate
    saved_at: float | None


def apply_plan(
    compute: "Compute", config: Path | str | LoadedConfig, saved: Path | str, options: Options
) -> Applied:
    """Quotes the best offer of a saved plan again, for the config and data as they are now.

    Only that offer is taken, and only at a live price. Its cap is the one of `options`; without,
    the lower one of the saved plan's and the config's. Spends nothing. Raises `BudgetError` where
    the run would cost more than the cap now, `NothingFitsError` where the offer is no longer sold
    or no longer fits, `ProviderError` where its provider cannot be asked.
    """
    plan = _read(Path(saved))
    wanted = plan.best
    if wanted is None:
        raise NothingFitsError(f"no offer fitted when {saved} was made", mend=_AGAIN)
    name = wanted.offer.provider
    compute.catalogue.find(name)
    cap = options.max_usd
    if cap is None:
        configured = load_with(config, options).config.compute.max_usd
        cap = _lower(configured, plan.requirements.max_usd)
    planned = plan_run(compute, config, replace(options, providers=(name,), max_usd=cap))
    if name in planned.warnings:
        raise TransientError(
            f"{name} cannot be asked for its price now: {planned.warnings[name]}",
            mend="try again later; nothing was started",
        )
    quoted = _same(planned.plan, wanted.offer)
    only = replace(planned.plan, candidates=(quoted,))
    return Applied(replace(planned, plan=only), wanted, plan.made_at)


def _read(path: Path) -> Plan:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the saved plan {path} cannot be read", mend=_AGAIN) from error
    try:
        return Plan.from_json(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", mend=error.mend) from error


def _lower(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    caps = [cap for cap in (one, other) if cap is not None]
    return min(caps) if caps else None


def _key(offer: Offer) -> tuple[str, str, str, bool, str, int]:
    """What makes it the same machine, whatever it costs now."""
    return (
        offer.provider,
        offer.id,
        offer.region,
        offer.spot,
        offer.gpu.name,
        offer.gpu_count,
    )


def _same(plan: Plan, wanted: Offer) -> Candidate:
    """The candidate that this offer is now; every way in which it is none is an error."""
    for candidate in plan.candidates:
        if _key(candidate.offer) == _key(wanted):
            return candidate
    called = f"{wanted.provider} {wanted.id} ({wanted.gpu.name})"
    for refusal in plan.refused:
        if _key(refusal.offer) == _key(wanted):
            text = f"{called}: {refusal.reason}"
            if refusal.code is Reason.CAP:
                raise BudgetError(text, mend=f"raise --max-usd, or {_AGAIN}")
            raise NothingFitsError(text, mend=_AGAIN)
    raise NothingFitsError(f"{called} is no longer sold", mend=_AGAIN)
