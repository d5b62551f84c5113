"""`sweep`: an adapter for each of several base models, or configs, under one cap."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.following import finish, see_through
from kwanzaa_compute.cli.options import (
    AsJson,
    Config,
    Deadline,
    EvalFile,
    Gpu,
    MaxHours,
    MaxSteps,
    MaxUsd,
    Output,
    Providers,
    Simulate,
    Spot,
    StoreUrl,
    TrainFile,
    buying_compute,
    buying_options,
    config_overrides,
    folder_or_name,
)
from kwanzaa_compute.cli.plan_view import say_notes, show_choice
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.training import (
    Detach,
    Yes,
    agreed,
    begin,
    launch_and_leave,
    without_watcher,
)
from kwanzaa_compute.cli.words import many, usd
from kwanzaa_compute.compute import Compute, Sweep
from kwanzaa_compute.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError
from kwanzaa_compute.market.candidates import Candidate

BaseModels = Annotated[
    tuple[str, ...],
    Parameter(
        name="--base-model",
        negative="",
        help="A base model: a repository, or a folder here; give it once for each adapter.",
    ),
]
Together = Annotated[
    bool,
    Parameter(name="--together", negative="", help="One run for all, also where that costs more."),
]


def sweep(
    *config: Config,
    base_model: BaseModels = (),
    provider: Providers = (),
    max_usd: MaxUsd = None,
    max_hours: MaxHours = None,
    deadline: Deadline = None,
    gpu: Gpu = None,
    spot: Spot = None,
    max_steps: MaxSteps = None,
    output: Output = None,
    train_file: TrainFile = None,
    eval_file: EvalFile = None,
    store: StoreUrl = None,
    together: Together = False,
    simulate: Simulate = False,
    detach: Detach = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Train what each CONFIG describes, or one on each --base-model, and bring the adapters here.

    All of it is under one cap. Where it is cheaper, one machine trains them all in one run: one on
    each GPU, the others in turn, or at once where they share a base. Otherwise each has a run of
    its own, one after the other. Each adapter gets a folder.
    """
    screen = Screen(as_json=as_json)
    options = buying_options(
        provider=provider,
        max_usd=max_usd,
        max_hours=max_hours,
        deadline=deadline,
        gpu=gpu,
        spot=spot,
        overrides=config_overrides(
            max_steps=max_steps, output=output, train_file=train_file, eval_file=eval_file
        ),
    )
    bases = [folder_or_name(base) for base in base_model]
    with buying_compute(store, provider, simulate=simulate) as compute:
        if detach and compute.is_simulated:
            raise UsageError("a simulation ends with this command", mend="leave --detach away")
        # Nobody stays to start the second of several runs.
        planned = compute.plan_sweep(config, bases, options, always_together=together or detach)
        return _sweep(screen, compute, planned, detach=detach, named=bool(provider), yes=yes)


def _sweep(
    screen: Screen, compute: Compute, planned: Sweep, *, detach: bool, named: bool, yes: bool
) -> int:
    say_notes(screen, planned.runs[0])
    choices = [compute.buyable(run) for run in planned.runs]
    if detach and not named:
        planned = _without_watcher(compute, planned, choices)
        choices = [compute.buyable(run) for run in planned.runs]
    _show(screen, planned)
    for one, candidates in zip(planned.runs, choices, strict=True):
        show_choice(screen, one, candidates)
    if not agreed(screen, [c for candidates in choices for c in candidates], yes=yes):
        screen.talk("nothing was started")
        return EXIT_INTERRUPTED
    spent, worst = Decimal(0), EXIT_OK
    for number, candidates in enumerate(choices):
        run = begin(screen, compute, planned.next_run(number, spent), candidates[0])
        if detach:
            return launch_and_leave(screen, compute, run)
        left = see_through(screen, compute, run)
        if left is not None:
            _say_what_was_not_begun(screen, planned, number)
            return left
        code = finish(screen, run)
        worst = worst or code
        spent += run.receipt.usd
    return worst


def _without_watcher(
    compute: Compute, planned: Sweep, choices: Sequence[Sequence[Candidate]]
) -> Sweep:
    pairs = zip(planned.runs, choices, strict=True)
    return replace(planned, runs=tuple(without_watcher(compute, run, c) for run, c in pairs))


def _show(screen: Screen, planned: Sweep) -> None:
    names = planned.names
    way = "one run" if planned.is_together else f"{len(names)} runs, one after the other"
    screen.talk(f"{many(len(names), 'adapter')} in {way}: {', '.join(names)}", "bold")
    prices = {"one run": planned.together_usd, "a run for each": planned.apart_usd}
    words = [f"{what} {usd(price)}" for what, price in prices.items() if price is not None]
    screen.talk(f"  expected  {', '.join(words)}")


def _say_what_was_not_begun(screen: Screen, planned: Sweep, number: int) -> None:
    waiting = planned.names[number + 1 :] if not planned.is_together else ()
    if waiting:
        screen.talk(f"not begun: {', '.join(waiting)}; kwanzaa train CONFIG --base-model does it")
