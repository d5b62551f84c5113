"""Which candidates of a plan a run can try from here: installed, within the store's reach, paid."""

from typing import TYPE_CHECKING

from kwanzaa_compute.compute.offers import at_todays_price
from kwanzaa_compute.compute.planning import Planned
from kwanzaa_compute.compute.prospects import shortlist
from kwanzaa_compute.compute.reach import within_reach_of_the_store
from kwanzaa_compute.drivers.plugins import how_to_install
from kwanzaa_compute.errors import BudgetError, NothingFitsError
from kwanzaa_compute.market.candidates import Candidate

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute


def buyable(compute: "Compute", planned: Planned) -> list[Candidate]:
    """The candidates that a run of this plan would try, best first; never an empty list.

    Only offers that were asked for now are bought: a cap holds at the price that was quoted.
    Raises `NothingFitsError` where nothing that fits can be had from here, `BudgetError` where
    money would be spent and there is no cap, `CredentialsError` or `TransientError` where nobody
    could be asked.
    """
    here = compute.catalogue.providers
    ranked = [c for c in planned.plan.candidates if c.offer.provider in here]
    ranked = at_todays_price(planned.for_sale, ranked)
    ranked = within_reach_of_the_store(compute, planned, ranked)
    if not ranked:
        there = {c.offer.provider: None for c in planned.plan.candidates}
        cheapest = [c.offer.provider for c in planned.plan.candidates[:1]]
        raise NothingFitsError(
            f"this run fits on {', '.join(sorted(there))}, none of which is installed here"
            if there
            else "no offer fits this run",
            mend=how_to_install(cheapest) if there else "kwanzaa plan CONFIG --explain",
        )
    if planned.max_usd is None and not ranked[0].offer.own_machine:
        raise BudgetError(
            "a run that costs money needs a cap", mend="add --max-usd, or compute.max_usd"
        )
    if planned.max_usd is None:
        ranked = [c for c in ranked if c.offer.own_machine]
    return shortlist(ranked, deadline=planned.deadline_hours is not None)
