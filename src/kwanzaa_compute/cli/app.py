"""The table of commands. Each is imported only when it runs."""

from collections.abc import Sequence
from typing import Any

from cyclopts import App, Group, Parameter

from kwanzaa_compute import __version__

_ABOUT = (
    "A training.yaml and a dollar cap in; a trained QLoRA adapter out, on whichever machine does"
    " the whole run cheapest, and nothing left billing."
)
_EPILOGUE = (
    "Exit codes: 0 done, 1 the run failed, 2 usage or config, 3 credentials, 4 nothing fits,"
    " 5 budget, 6 SOMETHING MAY STILL BE BILLING, 7 provider or store unavailable,"
    " 130 interrupted.\n\n"
    "Every command takes --json, and --debug to show where an error comes from."
)

PLANNING, RUNNING, ENDING, SETTING_UP = (
    Group(title, sort_key=number)
    for number, title in enumerate(("Plan", "Run", "End", "Set up"), start=1)
)
_HERE = "kwanzaa_compute.cli"
COMMANDS: Sequence[tuple[str, str, Group, str]] = (
    ("plan", "buying:plan", PLANNING, "What the whole run would cost, everywhere; spends nothing."),
    ("offers", "buying:offers", PLANNING, "What is for sale, with each price's source and age."),
    ("train", "training:train", RUNNING, "Plan, ask, launch, watch, recover, download, receipt."),
    ("provision", "machines:provision", RUNNING, "Rent a machine to look around on."),
    ("sweep", "sweeping:sweep", RUNNING, "Train an adapter for each of several base models."),
    ("resume", "training:resume", RUNNING, "Watch a run again, or go on from its checkpoint."),
    ("runs", "looking:runs", RUNNING, "Your runs: what they do, and what they cost now."),
    ("show", "looking:show", RUNNING, "Everything about one run: attempts, receipt, history."),
    ("monitor", "looking:monitor", RUNNING, "Look at a run live: loss, tokens/s, memory, dollars."),
    ("logs", "looking:logs", RUNNING, "What the run's machine printed."),
    ("ssh", "machines:ssh", RUNNING, "Log in to a run's machine; its host key is known before."),
    ("watch", "ending:watch", RUNNING, "See every open run through (cron, systemd)."),
    ("download", "adapters:download", RUNNING, "Fetch a finished adapter from the store."),
    ("publish", "publishing:publish", RUNNING, "Send a finished adapter to the Hugging Face Hub."),
    ("stop", "ending:stop", ENDING, "Save a checkpoint, then end the machine."),
    ("terminate", "ending:terminate", ENDING, "End the machine now: nothing bills any more."),
    ("gc", "cleaning:gc", ENDING, "Find machines without a run, and runs without a machine."),
    ("cap", "cleaning:cap", ENDING, "What all runs together may cost: show it, or set it."),
    ("rebuild", "cleaning:rebuild", ENDING, "Rebuild a lost ledger from store and clouds."),
    ("init", "initialising:init", SETTING_UP, "A commented training.yaml and a first plan."),
    ("validate", "validating:validate", SETTING_UP, "The checklist, each point with its fix."),
    ("doctor", "diagnosing:doctor", SETTING_UP, "Look for what may be wrong on this machine."),
    ("providers", "setting_up:providers", SETTING_UP, "Providers: installed, missing and broken."),
    ("schema", "setting_up:schema", SETTING_UP, "The JSON Schema of training.yaml, for editors."),
    ("completion", "setting_up:completion", SETTING_UP, "A completion script for your shell."),
)


def build_app(*, fancy: bool, chosen: str | None = None) -> App:
    """The application; `fancy` draws boxes around its help.

    The command that is `chosen` explains itself at length, from its docstring.
    """
    app = App(
        name="kwanzaa",
        help=_ABOUT,
        help_epilogue=None if chosen else _EPILOGUE,
        help_format="plaintext",
        help_formatter="default" if fancy else "plain",
        default_parameter=Parameter(show_default=False),
        version=__version__,
        group_commands=Group("Also", sort_key=9),
        suppress_keyboard_interrupt=False,
    )
    for number, (name, where, group, about) in enumerate(COMMANDS):
        extras: dict[str, Any] = {"group": group, "sort_key": number}
        if name != chosen:
            extras["help"] = about
        app.command(f"{_HERE}.{where}", name=name, **extras)
    return app
