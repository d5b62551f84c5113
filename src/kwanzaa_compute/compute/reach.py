"""Which machines can reach a run's folder in the store, and with what right."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwanzaa_compute.compute.planning import Planned
from kwanzaa_compute.drivers.contract import Feature
from kwanzaa_compute.errors import CredentialsError, UsageError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.store.grants import grant, grant_hours

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute


def within_reach_of_the_store(
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
        held = grant_hours(root, compute.environment, now=compute.clock.now())
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
    """Whether its machines see this machine's files, and with them the code that is here."""
    info = compute.catalogue.providers[candidate.offer.provider]
    return Feature.SHARES_FILES in info.features


def _needs_no_grant(compute: "Compute", candidate: Candidate) -> bool:
    """Its machines are ours, or have a right of their own to the store."""
    info = compute.catalogue.providers[candidate.offer.provider]
    return bool({Feature.SHARES_FILES, Feature.STORE_ROLE} & info.features)
