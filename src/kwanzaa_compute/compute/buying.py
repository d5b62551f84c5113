"""Which candidates of a plan a run can try from here: installed, within the store's reach, paid."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwanzaa_compute.compute.planning import Planned
from kwanzaa_compute.compute.prospects import shortlist
from kwanzaa_compute.drivers.contract import Feature
from kwanzaa_compute.errors import BudgetError, CredentialsError, NothingFitsError, UsageError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.store.grants import grant, grant_hours

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute


def buyable(compute: "Compute", planned: Planned) -> list[Candidate]:
    """The candidates that a run of this plan would try, best first; never an empty list.

    Raises `NothingFitsError` where nothing that fits can be had from here, `BudgetError` where
    money would be spent and there is no cap.
    """
    here = compute.catalogue.providers
    ranked = [c for c in planned.plan.candidates if c.offer.provider in here]
    ranked = _within_reach_of_the_store(compute, planned, ranked)
    if not ranked:
        there = {candidate.offer.provider for candidate in planned.plan.candidates}
        raise NothingFitsError(
            f"this run fits on {', '.join(sorted(there))}, none of which is installed here"
            if there
            else "no offer fits this run",
            mend="kwanzaa plan CONFIG --explain says why; kwanzaa providers, what is here",
        )
    if planned.max_usd is None and not ranked[0].offer.own_machine:
        raise BudgetError(
            "a run that costs money needs a cap", mend="add --max-usd, or compute.max_usd"
        )
    if planned.max_usd is None:
        ranked = [c for c in ranked if c.offer.own_machine]
    return shortlist(ranked, deadline=planned.deadline_hours is not None)


def _within_reach_of_the_store(
    compute: "Compute", planned: Planned, ranked: list[Candidate]
) -> list[Candidate]:
    """Those whose machines can reach the run's store, with a right that holds long enough."""
    root = compute.store_root(planned.loaded.config.compute.store)
    scheme = urlsplit(root).scheme
    providers = compute.catalogue.providers
    within = [c for c in ranked if scheme in providers[c.offer.provider].store_schemes]
    if ranked and not within:
        raise UsageError(
            f"no machine that fits can reach the run's folder in {root}",
            mend="choose a store that it reaches, for example --store s3://bucket/folder",
        )
    own = [c for c in within if _needs_no_grant(compute, c)]
    if len(own) == len(within):
        return within
    try:
        held = grant_hours(root, compute.environment)
    except CredentialsError:
        if not own:
            raise
        return own
    if held is not None and held < planned.max_hours:
        if not own:
            grant(root, compute.environment, hours=planned.max_hours, now=compute.clock.now())
        return own
    return within


def shares_files(compute: "Compute", candidate: Candidate) -> bool:
    """Whether its machines see this machine's files."""
    info = compute.catalogue.providers[candidate.offer.provider]
    return Feature.SHARES_FILES in info.features


def _needs_no_grant(compute: "Compute", candidate: Candidate) -> bool:
    """Its machines are ours, or have a right of their own to the store."""
    info = compute.catalogue.providers[candidate.offer.provider]
    return bool({Feature.SHARES_FILES, Feature.STORE_ROLE} & info.features)
