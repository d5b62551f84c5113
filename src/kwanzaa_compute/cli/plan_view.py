"""Plans and offers as people read them."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import about, clean, digits_for, hours, many, usd
from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute import Applied, Compute, ForSale, Planned
from kwanzaa_compute.drivers.contract import Deadline
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.offers import Offer

_BEST = 10


def say_notes(screen: Screen, planned: Planned, *, in_full: bool = False) -> None:
    """What of the config is not applied as written, and which providers could not be asked.

    On a terminal each is one line, unless `in_full`.
    """
    if planned.notes:
        keys = many(len(planned.notes), "key")
        more = "" if in_full or not screen.is_live else "; kwanzaa plan --explain says all of it"
        screen.talk(f"{planned.loaded.path.name}: {keys} not applied as written{more}", "yellow")
    for note in planned.notes:
        if in_full:
            screen.talk(f"  {note}", "dim")
        else:
            screen.note(f"  {note}")
    say_unasked(screen, planned.for_sale)
    left, own = planned.plan.requirements.max_usd, planned.max_usd
    if left is not None and (own is None or left < own):
        screen.warn(f"the cap on all runs leaves {usd(left)} for this one: kwanzaa cap")


def say_unasked(screen: Screen, for_sale: ForSale) -> None:
    """Which providers could not be asked and why, and whose last answer stands here for them."""
    unset = sorted(for_sale.unconfigured)
    if unset:
        screen.note(f"  not asked, no credentials here: {', '.join(unset)} (kwanzaa providers)")
    for name, reason in for_sale.warnings.items():
        if name in for_sale.unconfigured:
            continue
        since = for_sale.cached.get(name)
        instead = f"its answer of {since}" if since else "the bundled prices, if it has any"
        screen.warn(f"{name} could not be asked: {reason}; this shows {instead}")
    for name in for_sale.cached.keys() - for_sale.warnings.keys():
        screen.talk(f"{name} was not asked: this shows its answer of {for_sale.cached[name]}")


def show_work(screen: Screen, planned: Planned) -> None:
    """What there is to do, in two lines."""
    work, config = planned.plan.workload, planned.loaded.config
    screen.write(f"{config.run.name}: {config.model.native_base_model_id}", "bold")
    screen.write(
        f"  {many(planned.size.samples, 'sample')}, about {work.tokens_per_epoch:,} tokens"
        f" x {work.epochs:g} epochs = {many(work.steps, 'step')}"
        f" of {many(work.rows_per_step, 'row')} x {work.row_tokens:,} tokens"
    )
    needs = planned.plan.requirements
    cap = "none yet" if planned.max_usd is None else usd(planned.max_usd)
    screen.write(
        f"  needs {needs.vram_gib:.1f} GiB of GPU memory, {needs.disk_gib:.0f} GiB of disk;"
        f" cap {cap}, limit {hours(planned.max_hours)}"
    )


def show_candidates(
    screen: Screen, planned: Planned, compute: Compute, *, everything: bool
) -> None:
    """The ranking: what the whole run would take and cost on each machine."""
    plan = planned.plan
    if not plan.candidates:
        screen.write("\nno offer fits this run", "red")
        return
    shown = plan.candidates if everything else plan.candidates[:_BEST]
    screen.write()
    paid = [c.usd.expected for c in shown if c.usd.expected]
    digits = digits_for(min(paid, default=Decimal(0)))
    columns = [">", "provider", "machine", "region", ">$/h", ">time", ">expected", ">1 in 20"]
    screen.table(
        [*columns, ">worst", *(["what to order"] if everything else [])],
        [
            [
                str(number),
                *_row(candidate, compute, digits),
                *([clean(candidate.offer.id)] if everything else []),
            ]
            for number, candidate in enumerate(shown, start=1)
        ],
    )
    if len(shown) < len(plan.candidates):
        screen.write(f"... and {len(plan.candidates) - len(shown)} more (--explain shows all)")
    watched = sorted({c.offer.provider for c in shown if needs_a_watcher(compute, c)})
    if watched:
        screen.write(f"only a watcher ends a machine of {', '.join(watched)}: keep one running")
    missing = {c.offer.provider for c in shown} - set(compute.catalogue.providers)
    if missing:
        screen.write(f"* not installed here; {_how_to_install(missing)}")


def _row(candidate: Candidate, compute: Compute, digits: int) -> tuple[str, ...]:
    offer, cost = candidate.offer, candidate.usd
    mark = "" if offer.provider in compute.catalogue.providers else "*"
    return (
        f"{offer.provider}{mark}",
        machine(offer),
        offer.region or "-",
        "free" if offer.own_machine else usd(offer.usd_per_hour),
        about(candidate.hours.expected),
        usd(cost.expected, digits),
        usd(cost.p95, digits),
        usd(cost.worst, digits),
    )


def show_change(screen: Screen, applied: Applied) -> None:
    """What a saved plan had promised, beside what the same offer would cost now."""
    saved, now = applied.saved.usd.expected, applied.planned.plan.candidates[0].usd.expected
    change = "as planned" if saved == now else f"{usd(saved)} when planned, {usd(now)} now"
    screen.talk(f"saved plan: {machine(applied.saved.offer)}, {change}")


def _how_to_install(missing: set[str]) -> str:
    from kwanzaa_compute.drivers.plugins import how_to_install

    return how_to_install(missing)


def machine(offer: Offer) -> str:
    """A machine in words: `2x A100-80GB spot`; of several, how many: `8x L4 on 2 machines`."""
    count = f"{offer.gpu_count}x " if offer.gpu_count > 1 else ""
    several = f" on {offer.machines} machines" if offer.machines > 1 else ""
    return clean(f"{count}{offer.gpu.name}{several}{' spot' if offer.spot else ''}")


def show_refused(screen: Screen, planned: Planned, *, everything: bool) -> None:
    """Every offer that is out with its reason, or how many for each reason."""
    refused = planned.plan.refused
    if not refused:
        return
    if everything:
        screen.write(f"\n{many(len(refused), 'offer')} refused", "bold")
        rows = [
            (r.offer.provider, machine(r.offer), r.offer.region, clean(r.offer.id), r.reason)
            for r in refused
        ]
        screen.table(("provider", "machine", "region", "id", "why"), sorted(rows))
        return
    counts = Counter(str(refusal.code) for refusal in refused).most_common()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    screen.write(f"\n{many(len(refused), 'offer')} refused ({reasons}); --explain says why")


def show_choice(screen: Screen, planned: Planned, candidates: Sequence[Candidate]) -> None:
    """What is about to be started and what it costs, before somebody says yes."""
    best = candidates[0]
    rate = "free" if best.offer.own_machine else f"{usd(best.offer.usd_per_hour)}/h"
    screen.talk(f"{planned.loaded.config.run.name}", "bold")
    screen.talk(
        f"  on        {best.offer.provider} {machine(best.offer)} {best.offer.region}".rstrip()
        + f", {rate}, about {about(best.hours.expected)}"
    )
    if not best.offer.own_machine:
        screen.talk(
            f"  costs     {usd(best.usd.expected)} expected, {usd(best.usd.p95)} once in 20 runs,"
            f" {usd(best.usd.worst)} at worst"
        )
    cap = "no cap: only this machine is used" if planned.max_usd is None else usd(planned.max_usd)
    screen.talk(f"  cap       {cap}; no machine runs longer than {hours(planned.max_hours)}")
    if planned.deadline_hours is not None:
        screen.talk(f"  deadline  in {hours(planned.deadline_hours)}: on spot while there is time")
    others = [f"{c.offer.provider} {machine(c.offer)}" for c in candidates[1:3]]
    if others:
        screen.talk(f"  otherwise {', then '.join(others)}")
    for mark in best.marks:
        screen.talk(f"  note      {mark}", "yellow")


def needs_a_watcher(compute: Compute, candidate: Candidate) -> bool:
    """Whether nothing but a watcher ends this candidate's machine."""
    info = compute.catalogue.providers.get(candidate.offer.provider)
    return info is not None and info.deadline is Deadline.BY_WATCHER


def show_offers(screen: Screen, offers: Sequence[Offer], now: float) -> None:
    """What is for sale, with the source and age of each price."""
    screen.table(
        ("provider", "machine", ">GiB", "bf16", "region", ">$/h", "stock", ">age", "source"),
        [
            (
                offer.provider,
                machine(offer),
                f"{offer.gpu.vram_gib * offer.gpu_count:.0f}" if offer.gpu.vram_gib else "-",
                "yes" if offer.gpu.bf16 else "no",
                offer.region or "-",
                "free" if offer.own_machine else usd(offer.usd_per_hour),
                str(offer.availability),
                age(offer, now),
                clean(offer.source),
            )
            for offer in offers
        ],
        expendable=("source", "bf16", ">GiB"),
    )


def age(offer: Offer, now: float) -> str:
    """How old a price is, in days."""
    try:
        then = date.fromisoformat(offer.as_of[:10])
    except ValueError:
        return "-"
    days = (date.fromisoformat(iso(now)[:10]) - then).days
    return "today" if days <= 0 else many(days, "day")
