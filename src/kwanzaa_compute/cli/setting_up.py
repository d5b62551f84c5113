"""`providers`, `schema` and `completion`: what is here, and how editors and shells learn of it."""

import json
import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from kwanzaa_compute.cli.documents import provider_document
from kwanzaa_compute.cli.options import AsJson, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute import Compute
from kwanzaa_compute.drivers.contract import Deadline
from kwanzaa_compute.drivers.plugins import KNOWN_PACKAGES, how_to_install
from kwanzaa_compute.errors import EXIT_OK

_STOPS_BILLING = {
    Deadline.BY_PROVIDER: "the provider itself",
    Deadline.BY_MACHINE: "the machine itself",
    Deadline.BY_WATCHER: "only a watcher",
}


def providers(*, as_json: AsJson = False) -> int:
    """The providers that are installed, those that could be, and broken driver packages."""
    screen, compute = Screen(as_json=as_json), open_compute()
    catalogue = compute.catalogue
    missing = [name for name in KNOWN_PACKAGES if name not in catalogue.providers]
    if as_json:
        here = [provider_document(p, compute.environment) for p in catalogue.providers.values()]
        screen.json(
            {
                "providers": here,
                "missing": {name: how_to_install([name]) for name in missing},
                "broken": catalogue.broken,
            }
        )
        return EXIT_OK
    screen.table(
        ("provider", "what it is", "credentials", "ends its machines"),
        [
            (info.name, info.title, _credentials(compute, name), _STOPS_BILLING[info.deadline])
            for name, info in catalogue.providers.items()
        ],
    )
    if missing:
        screen.write()
        screen.table(("not installed", "to install"), [(n, how_to_install([n])) for n in missing])
    for name, reason in catalogue.broken.items():
        screen.warn(f"the driver package {name} cannot be used: {reason}")
    return EXIT_OK


def _credentials(compute: Compute, name: str) -> str:
    wanted = compute.catalogue.providers[name].environment
    missing = [variable for variable in wanted if not compute.environment.get(variable)]
    if not wanted:
        return "none needed"
    return f"set {', '.join(missing)}" if missing else "found"


def schema(*, as_json: AsJson = False) -> int:
    """The JSON Schema of training.yaml: kwanzaa schema > training.schema.json.

    Then let training.yaml begin with: # yaml-language-server: $schema=training.schema.json
    """
    from kwanzaa_compute.config import json_schema

    # It is JSON already: --json only leaves out the spaces.
    sys.stdout.write(json.dumps(json_schema(), indent=None if as_json else 2) + "\n")
    return EXIT_OK


Shell = Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Your shell.")]


def completion(shell: Shell, /, *, as_json: AsJson = False) -> int:
    """A script that completes kwanzaa's commands and options.

    bash: kwanzaa completion bash > ~/.local/share/bash-completion/completions/kwanzaa
    zsh:  kwanzaa completion zsh > a file named _kwanzaa in a folder of your fpath
    fish: kwanzaa completion fish > ~/.config/fish/completions/kwanzaa.fish
    """
    from kwanzaa_compute.cli.app import build_app

    script = build_app(fancy=False).generate_completion(prog_name="kwanzaa", shell=shell)
    if as_json:
        Screen(as_json=True).json({"shell": shell, "script": script})
    else:
        sys.stdout.write(script if script.endswith("\n") else f"{script}\n")
    return EXIT_OK
