"""`kwanzaa plan --explain`: how memory, time and money come about, line by line."""

from kwanzaa_compute.cli.plan_view import machine
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import about, digits_for, duration, usd
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.plan import Plan

_BEST = 5


def show_explained(screen: Screen, plan: Plan) -> None:
    """The memory that the run needs, set-up against speed of the best, and the best one's bill."""
    screen.write(f"\nGPU memory: {plan.sizing.total_gib:.2f} GiB", "bold")
    screen.table(
        ("part", ">GiB", "how"), [(ln.what, f"{ln.gib:.3f}", ln.why) for ln in plan.sizing.lines]
    )
    if plan.best is None:
        return
    screen.write("\nset-up against speed", "bold")
    screen.table(
        ("provider", "machine", ">set-up", ">training", ">share", ">tokens/s", ">expected"),
        [_against(candidate) for candidate in plan.candidates[:_BEST]],
    )
    _show_bill(screen, plan, plan.best)


def _against(candidate: Candidate) -> tuple[str, ...]:
    set_up, training = candidate.set_up_s, candidate.training_s
    return (
        candidate.offer.provider,
        machine(candidate.offer),
        duration(set_up),
        duration(training),
        f"{candidate.set_up_share:.0%}",
        f"{candidate.speed.expected:,.0f}",
        usd(candidate.usd.expected, digits_for(candidate.usd.expected)),
    )


def _show_bill(screen: Screen, plan: Plan, best: Candidate) -> None:
    """How the best candidate's bill comes about, part by part."""
    screen.write(f"\nbest: {best.offer.provider} {machine(best.offer)}", "bold")
    for cost in best.lines:
        amount = "" if best.offer.own_machine else f"{usd(cost.usd, 4):>10}"
        time = duration(cost.seconds) if cost.seconds else ""
        screen.write(f"  {cost.what:15} {time:>12} {amount}  {cost.why}".rstrip())
    screen.write(f"  {best.speed.expected:,.0f} tokens/s: {best.speed.provenance}")
    if best.checkpoint_every_s is not None:
        screen.write(f"  best saved every {duration(best.checkpoint_every_s)} (Young, Daly)")
    for candidate in plan.candidates[:_BEST]:
        ceiling = plan.spot_ceiling(candidate)
        if ceiling is not None:
            screen.write(
                f"  {candidate.offer.provider} {machine(candidate.offer)}: pays up to"
                f" {usd(ceiling, 4)}/h, above it on-demand is cheaper; about"
                f" {about(candidate.hours.expected)}"
            )
    for mark in best.marks:
        screen.write(f"  note: {mark}", "yellow")
