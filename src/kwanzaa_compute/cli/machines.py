"""`provision` and `ssh`: a machine to look around on, and the way in to any run's machine."""

import os
import shlex
import shutil
from typing import Annotated, NoReturn

from cyclopts import Parameter

from kwanzaa_compute.cli.documents import offer_document
from kwanzaa_compute.cli.following import finish, see_through
from kwanzaa_compute.cli.options import (
    AsJson,
    Gpu,
    MaxUsd,
    Providers,
    RunId,
    Simulate,
    StoreUrl,
    buying_compute,
    open_compute,
)
from kwanzaa_compute.cli.plan_view import machine
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.training import Detach, Yes, launch_and_leave
from kwanzaa_compute.cli.words import hours, usd
from kwanzaa_compute.compute import Compute
from kwanzaa_compute.compute.machines import MachineChoice, MachineWish
from kwanzaa_compute.compute.ssh_words import known_hosts, ssh_words
from kwanzaa_compute.drivers.contract import Deadline, SSHAccess
from kwanzaa_compute.errors import EXIT_INTERRUPTED, EXIT_OK, TransientError, UsageError

_PAUSE_S = 2.0
_PATIENCE_S = 1800.0

Hours = Annotated[float, Parameter(name="--max-hours", help="It ends after so many hours.")]
Spot = Annotated[bool, Parameter(name="--spot", negative="", help="A machine that may be lost.")]
Print = Annotated[
    bool, Parameter(name="--print", negative="", help="Show the command instead of running it.")
]
Words = Annotated[str, Parameter(help="What to run there, after --.", allow_leading_hyphen=True)]


def provision(
    *,
    max_hours: Hours,
    gpu: Gpu = None,
    provider: Providers = (),
    max_usd: MaxUsd = None,
    spot: Spot = False,
    store: StoreUrl = None,
    simulate: Simulate = False,
    detach: Detach = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Rent a machine to look around on: the cheapest hour that --gpu allows.

    It is a run like any other: in the ledger, with a cap, and with an end. kwanzaa ssh RUN logs
    in to it, kwanzaa terminate RUN ends it.
    """
    screen = Screen(as_json=as_json)
    wish = MachineWish(max_hours, gpu, provider, max_usd, spot)
    with buying_compute(store, provider, simulate=simulate) as compute:
        if detach and compute.is_simulated:
            raise UsageError("a simulation ends with this command", mend="leave --detach away")
        choice = compute.choose_machine(wish)
        for name, reason in choice.warnings.items():
            screen.warn(f"{name} could not be asked: {reason}")
        if detach and not provider:
            choice = _that_end_by_themselves(compute, choice)
        if not _agreed(screen, compute, choice, yes=yes):
            screen.talk("nothing was started")
            return EXIT_INTERRUPTED
        return _rent(screen, compute, choice, detach=detach)


def _that_end_by_themselves(compute: Compute, choice: MachineChoice) -> MachineChoice:
    """Without the offers whose machines only a watcher ends: nobody will be watching."""
    infos = compute.catalogue.providers
    offers = tuple(
        offer
        for offer in choice.offers
        if infos[offer.provider].deadline is not Deadline.BY_WATCHER
    )
    if not offers:
        name = choice.offers[0].provider
        raise UsageError(
            f"nothing but a watcher ends a machine of {name}",
            mend=f"leave --detach away, or say --provider {name} as well",
        )
    return MachineChoice(offers, choice.max_usd, choice.max_hours, choice.warnings)


def _agreed(screen: Screen, compute: Compute, choice: MachineChoice, *, yes: bool) -> bool:
    best = choice.offers[0]
    screen.talk(f"  on        {best.provider} {machine(best)} {best.region}".rstrip(), "bold")
    screen.talk(f"  costs     {usd(best.usd_per_hour)} an hour, from its launch to its end")
    screen.talk(f"  ends      after {hours(choice.max_hours)}, or at {usd(choice.max_usd)}")
    if compute.catalogue.providers[best.provider].deadline is Deadline.BY_WATCHER:
        screen.talk("  note      only a watcher ends it: leave this command running", "yellow")
    if yes:
        return True
    if screen.can_ask:
        return screen.ask("start?", default=False)
    raise UsageError("this may cost money, and nobody can be asked here", mend="add --yes")


def _rent(screen: Screen, compute: Compute, choice: MachineChoice, *, detach: bool) -> int:
    run = compute.provision(choice)
    if screen.as_json:
        screen.json({"event": "start", "run": run.id, "best": offer_document(choice.offers[0])})
    screen.talk(f"run {run.id}", "bold")
    if not compute.is_simulated:  # a simulation lives in this process alone
        screen.talk(f"  log in     kwanzaa ssh {run.id}")
        screen.talk(f"  end it     kwanzaa terminate {run.id}")
    if detach:
        return launch_and_leave(screen, compute, run)
    left = see_through(screen, compute, run)
    return finish(screen, run) if left is None else left


def ssh(
    run: RunId,
    /,
    *command: Words,
    only_print: Print = False,
    as_json: AsJson = False,
) -> int:
    """Log in to the machine of RUN, or run a command there: kwanzaa ssh RUN -- nvidia-smi.

    Its host key was known before the machine was; another one is refused, never asked about.
    """
    screen, compute = Screen(as_json=as_json), open_compute()
    found = compute.run(run)
    access = _waited_for(screen, compute, found.id)
    name = found.attempts[-1].name
    words = ssh_words(access, name, known_hosts(access, name, compute.home / "ssh"), command)
    if as_json:
        screen.json({"run": found.id, "argv": words, "host": access.host, "user": access.user})
    elif only_print:
        screen.raw(shlex.join(words))
    else:
        _become(words)
    return EXIT_OK


def _become(words: list[str]) -> NoReturn:
    program = shutil.which(words[0])
    if program is None:
        raise UsageError("there is no ssh here", mend="install OpenSSH, or add --print")
    os.execv(program, words)  # noqa: S606 -- no shell is what is wanted


def _waited_for(screen: Screen, compute: Compute, run_id: str) -> SSHAccess:
    """The way in, as soon as there is one: a machine may take minutes to boot."""
    run, last = compute.run(run_id), compute.clock.monotonic() + _PATIENCE_S
    access = run.ssh()
    if access is None:
        screen.talk("waiting for the machine to boot; Ctrl-C leaves")
    while access is None:
        if compute.clock.monotonic() > last:
            raise TransientError("the machine has no address yet", mend=f"kwanzaa show {run_id}")
        compute.clock.sleep(_PAUSE_S)
        access = run.ssh()
    return access
