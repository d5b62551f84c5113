"""`validate`: the checklist before a training, here or as ten steps on the chosen machine."""

from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.checklist import show_checks
from kwanzaa_compute.cli.options import (
    AsJson,
    Config,
    Gpu,
    MaxUsd,
    Providers,
    Spot,
    StoreUrl,
    buying_options,
    open_compute,
)
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute.checks import NOT_TRIED, exit_code, trial
from kwanzaa_compute.compute.checks import validate as look
from kwanzaa_compute.errors import UsageError

OnGpu = Annotated[
    bool,
    Parameter(name="--on-gpu", negative="", help="Also train ten steps on the chosen machine."),
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]


def validate(
    config: Config,
    /,
    *,
    provider: Providers = (),
    gpu: Gpu = None,
    spot: Spot = None,
    max_usd: MaxUsd = None,
    store: StoreUrl = None,
    on_gpu: OnGpu = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Go through the checklist for CONFIG: what holds, what does not, and what mends it.

    Nothing is spent. With --on-gpu ten real steps follow on the machine that would be taken, to
    the adapter's download; that needs --yes, and a cap (--max-usd) where it costs money.
    """
    if on_gpu and not yes:
        raise UsageError("--on-gpu launches a machine", mend="add --yes")
    screen, compute = Screen(as_json=as_json), open_compute(store)
    options = buying_options(provider=provider, gpu=gpu, spot=spot, max_usd=max_usd)
    checks = look(compute, config, options)
    if on_gpu and exit_code(checks) == 0:
        checks += trial(compute, config, options, screen.talk)
    elif len(checks) > 1:  # the config could be read, so there is something to try
        checks += NOT_TRIED
    return show_checks(screen, checks)
