"""A checklist on the screen, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict

from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute.checks import Check, State, exit_code

_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


def show_checks(screen: Screen, checks: Sequence[Check]) -> int:
    """Shows each point with its fix, and the sum; returns the exit code."""
    code = exit_code(list(checks))
    counts = {state: sum(check.state is state for check in checks) for state in State}
    if screen.as_json:
        rows = [
            {key: value for key, value in asdict(check).items() if key != "exit_code"}
            for check in checks
        ]
        screen.json({"checks": rows, "counts": counts, "exit": code})
        return code
    width = max((len(check.what) for check in checks), default=0)
    for check in checks:
        title = f"{check.state:<4}  {check.what:<{width}}  "
        screen.paragraph(title, check.found, _STYLES[check.state])
        if check.mend and check.state is not State.OK:
            screen.paragraph(f"{'':<{len(title)}}-> ", check.mend)
    screen.talk(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return code
