"""`gc`, `rebuild` and `cap`: what the clouds, the store and the ledger say of one another."""

from typing import Annotated, Any

from cyclopts import Parameter

from kwanzaa_compute.cli.documents import attempt_document, run_document
from kwanzaa_compute.cli.options import AsJson, MaxUsd, StoreUrl, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import clean, usd
from kwanzaa_compute.compute import Compute
from kwanzaa_compute.compute.rebuilding import Rebuilt, enter, look_for_runs
from kwanzaa_compute.compute.strays import Findings, Stray, end_strays, find_strays
from kwanzaa_compute.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    MayBeBillingError,
    ProviderError,
    UsageError,
)
from kwanzaa_compute.runs.records import RunRecord, RunState, Wish

End = Annotated[
    bool, Parameter(name="--end", negative="", help="End these machines, once you have agreed.")
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]
NoLimit = Annotated[bool, Parameter(name="--no-limit", negative="", help="Lift the cap.")]


def gc(*, end: End = False, yes: Yes = False, as_json: AsJson = False) -> int:
    """Find machines of yours without a run, and runs without a machine.

    Looks at every provider's own list, and only at machines that bear your mark. Without --end
    nothing is touched. A run without a machine is seen to by kwanzaa watch.
    """
    screen, compute = Screen(as_json=as_json), open_compute()
    found = find_strays(compute)
    if as_json:
        screen.json({"event": "found", **_findings_document(found)})
    _say_findings(screen, found)
    if end and found.strays:
        question = f"end {len(found.strays)} of your machines now?"
        if not _agreed(screen, question, yes=yes):
            return MayBeBillingError.exit_code
        end_strays(compute, found.strays)
        for stray in found.strays:
            screen.talk(f"{clean(stray.machine_id)}: ended, and confirmed absent")
        found = find_strays(compute)
    if found.strays:
        return MayBeBillingError.exit_code
    return ProviderError.exit_code if found.unasked else EXIT_OK


def _say_findings(screen: Screen, found: Findings) -> None:
    for stray in found.strays:
        screen.talk(str(stray), "bold red")
    for without in found.without:
        screen.talk(f"run {without.run_id}: {without.why}", "yellow")
    for provider, why in found.unasked.items():
        screen.warn(f"{provider} could not be asked, so nothing is known of it: {why}")
    if found.strays:
        screen.talk("  -> kwanzaa gc --end ends these machines", "red")
    elif found.without:
        screen.talk("  -> kwanzaa watch sees open runs through")
    else:
        screen.talk("no machine of yours is without a run")


def _findings_document(found: Findings) -> dict[str, Any]:
    names = ("provider", "machine_id", "name", "usd_per_hour", "why", "console_url")
    return {
        "machines": [{name: getattr(stray, name) for name in names} for stray in found.strays],
        "runs": [{"run": without.run_id, "why": without.why} for without in found.without],
        "unasked": dict(found.unasked),
    }


def end_all_strays(screen: Screen, compute: Compute) -> list[Stray]:
    """Ends every machine of yours that no open run accounts for; says which."""
    found = find_strays(compute)
    for stray in found.strays:
        screen.talk(str(stray), "bold red")
    for provider, why in found.unasked.items():
        screen.warn(f"{provider} could not be asked for other machines of yours: {why}")
    end_strays(compute, found.strays)
    return list(found.strays)


def rebuild(*, store: StoreUrl = None, yes: Yes = False, as_json: AsJson = False) -> int:
    """Rebuild a lost ledger from the runs' folders in the store and the clouds' own lists.

    Runs come back with their caps and costs. One whose machine may be alive goes on under
    kwanzaa watch; every other unfinished one comes back stopped, for kwanzaa resume.
    """
    screen, compute = Screen(as_json=as_json), open_compute(store)
    rebuilt = look_for_runs(compute)
    if as_json:
        screen.json(_rebuilt_document(rebuilt))
    for folder, why in rebuilt.skipped.items():
        screen.warn(f"{folder} is left out: {why}")
    if not rebuilt.runs:
        screen.talk(f"no run that is not known here lies in {rebuilt.root}")
        return EXIT_OK
    if not as_json:
        rows = [
            (run.id, str(run.state), str(len(attempts)), usd(run.max_usd), _what_next(run))
            for run, attempts in rebuilt.runs
        ]
        screen.table(("run", "state", ">attempts", ">cap", "what comes next"), rows)
    if not _agreed(screen, "enter them into the ledger?", yes=yes):
        return EXIT_INTERRUPTED
    enter(compute, rebuilt)
    screen.talk(f"{len(rebuilt.runs)} runs entered; kwanzaa watch sees the open ones through")
    return EXIT_OK


def _what_next(run: RunRecord) -> str:
    if run.state is RunState.RUNNING:
        if run.wish is Wish.RUN:
            return "its machine may be alive: it goes on"
        return "its machine is looked for and ended; then the run is stopped"
    return "kwanzaa resume goes on" if run.state is RunState.STOPPED else ""


def _rebuilt_document(rebuilt: Rebuilt) -> dict[str, Any]:
    return {
        "store": rebuilt.root,
        "owner": rebuilt.owner,
        "runs": [
            {**run_document(run), "attempts": [attempt_document(a) for a in attempts]}
            for run, attempts in rebuilt.runs
        ],
        "skipped": dict(rebuilt.skipped),
    }


def cap(*, max_usd: MaxUsd = None, no_limit: NoLimit = False, as_json: AsJson = False) -> int:
    """Show or set what all runs of this ledger may cost together: with --max-usd, or --no-limit.

    The cap counts what was ever spent, and holds at every launch, whoever launches. Each run keeps
    its own cap beside it.
    """
    screen, compute = Screen(as_json=as_json), open_compute()
    if no_limit and max_usd is not None:
        raise UsageError("a cap and no cap cannot both be", mend="kwanzaa cap --max-usd AMOUNT")
    if no_limit or max_usd is not None:
        compute.cap_project(max_usd)
    project = compute.project
    if as_json:
        names = ("max_usd", "spent_usd", "committed_usd", "left_usd")
        screen.json({name: getattr(project, name) for name in names})
        return EXIT_OK
    screen.write(f"cap on all runs   {'none' if project.max_usd is None else usd(project.max_usd)}")
    screen.write(f"spent until now   {usd(project.spent_usd)}")
    screen.write(f"spent or promised {usd(project.committed_usd)}")
    if project.left_usd is not None:
        screen.write(f"left              {usd(project.left_usd)}")
    return EXIT_OK


def _agreed(screen: Screen, question: str, *, yes: bool) -> bool:
    if yes:
        return True
    if screen.can_ask:
        return screen.ask(question, default=False)
    raise UsageError("nobody can be asked here", mend="add --yes")
