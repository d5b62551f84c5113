"""From a plan's candidates to what a run remembers of them, for every launch that may follow."""

from collections.abc import Sequence

from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.plan import Plan
from kwanzaa_compute.market.terms import terms_of
from kwanzaa_compute.market.workload import Workload
from kwanzaa_compute.runs.records import USUAL_DISK_GIB, Prospect

MOST = 20
"""Candidates that a run remembers."""
MOST_STEADY = 3
"""Of these, on-demand ones that a deadline can fall back on, should they not be among the best."""


def shortlist(ranked: Sequence[Candidate], *, deadline: bool) -> list[Candidate]:
    """The best candidates; with a deadline some of them on-demand, however cheap spot is."""
    best = list(ranked[:MOST])
    if not deadline or any(not candidate.offer.spot for candidate in best):
        return best
    steady = [candidate for candidate in ranked[MOST:] if not candidate.offer.spot][:MOST_STEADY]
    return [*best[: MOST - len(steady)], *steady]


def prospects_of(plan: Plan, candidates: Sequence[Candidate]) -> list[Prospect]:
    """Candidates as the run remembers them, with times that are kept nineteen times in twenty."""
    disk_gib = max(USUAL_DISK_GIB, plan.requirements.disk_gib)
    return [_prospect(candidate, plan.workload, disk_gib) for candidate in candidates]


def _prospect(candidate: Candidate, workload: Workload, disk_gib: float) -> Prospect:
    # A deadline that is kept only at the expected speed is missed half of the time.
    slow = candidate.speed.expected / candidate.speed.low
    every_s = candidate.training_s * slow
    if workload.save_every_steps:
        every_s *= min(1.0, workload.save_every_steps / max(1, workload.steps))
    if workload.save_every_s:
        every_s = min(every_s, workload.save_every_s)
    waits_s = terms_of(candidate.offer.provider).queue_s
    set_up_s = waits_s + candidate.set_up_s
    return Prospect(candidate.offer, set_up_s, candidate.work_s * slow, every_s, disk_gib)
