"""A machine to look around on: chosen by GPU and price, in the same ledger, with the same end."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from kwanzaa_compute.drivers.contract import Feature
from kwanzaa_compute.errors import BudgetError, NothingFitsError, UsageError
from kwanzaa_compute.market.gpus import gpu_matches
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.runs.candidates import dump_prospects
from kwanzaa_compute.runs.records import Prospect, RunRecord, RunState, Wish
from kwanzaa_compute.runs.run_file import run_json
from kwanzaa_compute.runs.supply import reserve_s
from kwanzaa_compute.store.folder import RUN

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

MOST_MACHINES = 5
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class MachineWish:
    """What somebody wants to look around on: `gpu` names one or a family ("A100").

    `max_hours` and `max_usd` are its end, whoever still watches; without `max_usd` the cap is
    what so many hours cost. Spot machines are taken only where `spot` says so.
    """

    max_hours: float
    gpu: str | None = None
    providers: tuple[str, ...] = ()
    max_usd: Decimal | None = None
    spot: bool = False


@dataclass(frozen=True, slots=True)
class MachineChoice:
    """Offers that would do, cheapest hour first, with the cap on all of it in dollars."""

    offers: tuple[Offer, ...]
    max_usd: Decimal
    max_hours: float
    warnings: Mapping[str, str]


def choose_machine(compute: "Compute", wish: MachineWish) -> MachineChoice:
    """What is for sale now and does, by the hour. Raises `NothingFitsError`, `BudgetError`."""
    if not 0 < wish.max_hours < float("inf"):
        raise UsageError("a machine is rented for some hours", mend="--max-hours 4, for example")
    for_sale = compute.offers(wish.providers or None)
    fitting = [offer for offer in for_sale.offers if _fits(compute, offer, wish)]
    if not fitting:
        what = f"no {wish.gpu}" if wish.gpu else "no machine"
        raise NothingFitsError(
            f"{what} that one can log in to is for sale now",
            mend="kwanzaa offers; kwanzaa providers says whom that could ask",
        )
    fitting.sort(key=lambda offer: offer.usd_per_hour or Decimal(0))
    offers = tuple(fitting[:MOST_MACHINES])
    enough = max(_whole_usd(compute, offer, wish.max_hours) for offer in offers)
    cap = enough if wish.max_usd is None else wish.max_usd
    least = _whole_usd(compute, offers[0], 0.0)
    if cap <= least:
        raise BudgetError(
            f"to get and to end the cheapest of them costs up to ${least}", mend="raise --max-usd"
        )
    return MachineChoice(offers, cap, wish.max_hours, for_sale.warnings)


def _fits(compute: "Compute", offer: Offer, wish: MachineWish) -> bool:
    usd, gpu = offer.usd_per_hour, offer.gpu
    return (
        not offer.own_machine
        and usd is not None
        and usd.is_finite()
        and usd > 0
        and offer.availability is not Availability.SOLD_OUT
        and offer.spot is wish.spot
        and Feature.SSH in compute.catalogue.find(offer.provider).features
        # A machine whose processor most wheels do not fit is for those who name it.
        and (gpu_matches(gpu, wish.gpu) if wish.gpu else gpu.arch != "arm")
    )


def _whole_usd(compute: "Compute", offer: Offer, hours: float) -> Decimal:
    """What so many hours cost with the time that getting proof of its end takes, in whole cents."""
    info = compute.catalogue.find(offer.provider)
    seconds = Decimal(str(hours * 3600 + reserve_s(info)))
    step = Decimal(offer.billing_step_s)
    steps = (max(seconds, Decimal(offer.minimum_s)) / step).to_integral_value(ROUND_CEILING)
    usd = (steps + 1) * step * (offer.usd_per_hour or Decimal(0)) / 3600
    return usd.quantize(_CENT, ROUND_CEILING)


def enter_machine(compute: "Compute", choice: MachineChoice) -> str:
    """Enters such a machine into store and ledger, as a run without a config; returns its id."""
    run_id = f"machine-{secrets.token_hex(3)}"
    record = RunRecord(
        id=run_id,
        name="machine",
        owner=compute.owner,
        store_url=f"{compute.store_root(None)}/runs/{run_id}",
        state=RunState.RUNNING,
        wish=Wish.RUN,
        created_at=compute.clock.now(),
        config="",
        candidates=dump_prospects([Prospect(offer) for offer in choice.offers]),
        max_usd=choice.max_usd,
        max_hours=choice.max_hours,
        output_dir="",
    )
    compute.open_store(record.store_url).put(RUN, run_json(record, []))
    compute.ledger.add_run(record)
    return run_id
