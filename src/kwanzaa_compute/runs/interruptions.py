"""How often a spot machine is taken back: what its provider is known for, and what we saw. Pure."""

from collections.abc import Sequence

from kwanzaa_compute.market.terms import terms_of
from kwanzaa_compute.runs.records import AttemptRecord, Fault

KNOWN_FOR_H = 2.0
"""So many hours of our own watching weigh as much as what the provider is known for."""


def interruptions_per_h(
    attempt: AttemptRecord, before: Sequence[AttemptRecord], now: float
) -> float:
    """Interruptions an hour to expect of `attempt`, after those that came before; 0 on demand."""
    if not attempt.spot:
        return 0.0
    alike = [a for a in before if a.spot and a.provider == attempt.provider and a.machine_id]
    taken = sum(a.fault is Fault.PREEMPTED for a in alike)
    lived_h = sum(a.billed_s(now) for a in alike) / 3600
    known = terms_of(attempt.provider).interruptions_per_h
    return (known * KNOWN_FOR_H + taken) / (KNOWN_FOR_H + lived_h)
