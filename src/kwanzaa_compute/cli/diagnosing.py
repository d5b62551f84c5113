"""`doctor`: what may be wrong here."""

from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.checklist import show_checks
from kwanzaa_compute.cli.options import AsJson, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute.diagnosis import diagnose

Notify = Annotated[
    bool, Parameter(name="--notify", negative="", help="Send a test message where you are told.")
]


def doctor(*, notify: Notify = False, as_json: AsJson = False) -> int:
    """Look at versions, credentials, disk, clock, ledger, and for machines without a run.

    Changes nothing, and shows no credential. The exit code is not 0 where something fails; it is
    6 where a machine may bill that belongs to no run.
    """
    return show_checks(Screen(as_json=as_json), diagnose(open_compute(), notify=notify))
