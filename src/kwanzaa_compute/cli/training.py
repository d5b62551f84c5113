"""`train` and `resume`: from a config to an adapter, with somebody looking on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.documents import candidate_document
from kwanzaa_compute.cli.following import finish, see_through
from kwanzaa_compute.cli.handing_over import write_the_notebook
from kwanzaa_compute.cli.options import (
    AsJson,
    BaseModel,
    Config,
    Deadline,
    EvalFile,
    Gpu,
    MaxHours,
    MaxSteps,
    MaxUsd,
    Output,
    Providers,
    RunId,
    Simulate,
    Spot,
    StoreUrl,
    TrainFile,
    buying_compute,
    buying_options,
    config_overrides,
    open_compute,
)
from kwanzaa_compute.cli.plan_view import needs_a_watcher, say_notes, show_change, show_choice
from kwanzaa_compute.cli.run_view import say_what_goes_on
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute import Compute, Options, Planned, Run
from kwanzaa_compute.compute.handing_over import takes_notebooks
from kwanzaa_compute.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.runs.records import AttemptState, RunState

Detach = Annotated[
    bool, Parameter(name="--detach", negative="", help="Leave once the machine is launched.")
]
SavedPlan = Annotated[
    Path | None,
    Parameter(name="--plan", help="Take the best offer of this saved plan, at today's price."),
]
FromCheckpoint = Annotated[
    str | None,
    Parameter(name="--from", help="Go on from this checkpoint, e.g. checkpoint-400."),
]
Github = Annotated[
    str | None,
    Parameter(
        name="--github",
        help="Where you will publish a notebook, for its link: OWNER/REPOSITORY[/BRANCH[/PATH]].",
    ),
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]


def train(
    config: Config,
    /,
    *,
    provider: Providers = (),
    max_usd: MaxUsd = None,
    max_hours: MaxHours = None,
    deadline: Deadline = None,
    gpu: Gpu = None,
    spot: Spot = None,
    base_model: BaseModel = None,
    max_steps: MaxSteps = None,
    output: Output = None,
    train_file: TrainFile = None,
    eval_file: EvalFile = None,
    store: StoreUrl = None,
    plan: SavedPlan = None,
    simulate: Simulate = False,
    detach: Detach = False,
    github: Github = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Train the adapter that CONFIG describes, and bring it here.

    The cheapest machine for the whole run is launched, watched and ended; if it is lost, the run
    goes on elsewhere from its newest checkpoint. What costs money needs a cap (--max-usd) and
    your yes. For Colab a notebook is written that you start yourself.
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
            base_model=base_model,
            max_steps=max_steps,
            output=output,
            train_file=train_file,
            eval_file=eval_file,
        ),
    )
    with buying_compute(store, provider, simulate=simulate) as compute:
        if detach and compute.is_simulated:
            raise UsageError("a simulation ends with this command", mend="leave --detach away")
        info = takes_notebooks(compute, config, options)
        if info is not None:
            return write_the_notebook(screen, compute, config, options, info, github)
        planned = _planned(screen, compute, config, options, plan)
        return _train(screen, compute, planned, detach=detach, named=bool(provider), yes=yes)


def _planned(
    screen: Screen, compute: Compute, config: Path, options: Options, saved: Path | None
) -> Planned:
    """A fresh plan, or the best offer of a saved one, with everything said that should be."""
    if saved is None:
        planned = compute.plan(config, options)
    else:
        applied = compute.apply(config, saved, options)
        planned = applied.planned
        show_change(screen, applied)
    say_notes(screen, planned)
    return planned


def _train(
    screen: Screen, compute: Compute, planned: Planned, *, detach: bool, named: bool, yes: bool
) -> int:
    candidates = compute.buyable(planned)
    if detach and not named and not compute.is_watched:
        planned = without_watcher(compute, planned, candidates)
        candidates = compute.buyable(planned)
    show_choice(screen, planned, candidates)
    if not agreed(screen, candidates, yes=yes):
        screen.talk("nothing was started")
        return EXIT_INTERRUPTED
    run = begin(screen, compute, planned, candidates[0])
    if detach:
        return launch_and_leave(screen, compute, run)
    left = see_through(screen, compute, run)
    return finish(screen, run) if left is None else left


def without_watcher(compute: Compute, planned: Planned, candidates: Sequence[Candidate]) -> Planned:
    """The plan without the machines that only a watcher ends: nobody will be watching.

    Not even as the second choice, for the first one may be sold out when it is asked for.
    Raises `UsageError` where none is left.
    """
    kept = tuple(c for c in candidates if not needs_a_watcher(compute, c))
    if not kept:
        name = candidates[0].offer.provider
        raise UsageError(
            f"nothing but a watcher ends a machine of {name}, and nobody watches",
            mend=f"start kwanzaa watch, leave --detach away, or say --provider {name} as well",
        )
    return replace(planned, plan=replace(planned.plan, candidates=kept))


def begin(screen: Screen, compute: Compute, planned: Planned, best: Candidate) -> Run:
    """Enters the run into ledger and store, and says so; nothing is launched yet."""
    run = compute.prepare(planned, say=screen.talk)
    if screen.as_json:
        members = list(planned.members)
        start = {"run": run.id, "best": candidate_document(best), "members": members}
        screen.json({"event": "start", **start})
    screen.talk(f"run {run.id}", "bold")
    return run


def agreed(screen: Screen, candidates: Sequence[Candidate], *, yes: bool) -> bool:
    """Whether a run may start. Only what costs nothing may start without anybody's yes."""
    is_free = all(candidate.offer.own_machine for candidate in candidates)
    if yes:
        return True
    if screen.can_ask:
        return screen.ask("start?", default=is_free)
    if is_free:
        return True
    raise UsageError("this may cost money, and nobody can be asked here", mend="add --yes")


def launch_and_leave(screen: Screen, compute: Compute, run: Run) -> int:
    """Launches until one machine is on its way, then leaves it to itself."""
    while run.state is RunState.RUNNING:
        step = run.launch()
        if step.attempt is not None and step.attempt.state is not AttemptState.CLOSED:
            say_what_goes_on(screen, compute, [run.id])
            screen.talk("  nobody watches it now: kwanzaa watch sees all open runs through")
            if screen.as_json:
                screen.json({"event": "left", "runs": [run.id], "exit": EXIT_OK})
            return EXIT_OK
        screen.talk(step.reason)
        compute.clock.sleep(run.poll_s)
    return finish(screen, run)


def resume(
    run: RunId,
    /,
    *,
    checkpoint: FromCheckpoint = None,
    max_usd: MaxUsd = None,
    as_json: AsJson = False,
) -> int:
    """Watch RUN to its end; if it has ended without an adapter, go on from its newest checkpoint.

    --from goes on from an older one, say checkpoint-400; later ones are set aside, not deleted.
    --max-usd sets a new cap for a run that has ended. What it has cost already counts.
    """
    screen, compute = Screen(as_json=as_json), open_compute()
    known = len(compute.run(run).events)
    found = compute.resume(run, max_usd=max_usd, checkpoint=checkpoint)
    if as_json:
        screen.json({"event": "start", "run": found.id, "best": None})
    screen.talk(f"run {found.id}", "bold")
    left = see_through(screen, compute, found, known_events=known)
    return finish(screen, found) if left is None else left
