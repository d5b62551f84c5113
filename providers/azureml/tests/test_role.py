"""The role in the README is that of the code, and allows what the driver does, no more."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.loopback.wire import Request
from kwanzaa_compute_azureml import role
from kwanzaa_compute_azureml.driver import AzureMLDriver
from kwanzaa_compute_azureml.settings import COMPUTE
from kwanzaa_compute_azureml.simulator import AzureMLSimulator

README = Path(__file__).parents[1] / "README.md"
SUBSCRIPTION, GROUP = "00000000-0000-0000-0000-000000000000", "my-group"
PREFIX = "Microsoft.MachineLearningServices/workspaces/"
VERBS = {"GET": "read", "PUT": "write", "DELETE": "delete"}
IMPLIED = {"environments/read"}
"""Who names an environment in a job must be able to read it."""


def actions(document: dict[str, Any]) -> set[str]:
    return {action.removeprefix(PREFIX) for action in document["Actions"]}


def action_of(request: Request) -> str | None:
    """The action that Azure checks for a request; None for what is nobody's."""
    if request.path.startswith("/history/"):
        return "experiments/runs/read"
    if not request.path.startswith("/subscriptions/"):
        return None
    kind = [*request.path.split("/")[9:], ""][0]
    if request.method == "POST":
        return f"{kind}/{request.path.rpartition('/')[2]}/action"
    if kind == "operations":
        return None  # the progress of what was asked for
    return "/".join(filter(None, (kind, VERBS[request.method])))


@pytest.mark.parametrize("compute", ["serverless", "cluster"])
def test_the_caller_may_do_what_the_driver_does_and_nothing_else(
    simulator: AzureMLSimulator,
    driver_of: Callable[..., AzureMLDriver],
    harness: Harness,
    compute: str,
) -> None:
    driver = harness.driver = driver_of(simulator, **{COMPUTE: compute})
    job = harness.job("kwz-me-p1-1", 600)
    driver.launch(job, next(iter(driver.offers())))
    harness.until(lambda: bool(list(driver.logs(job.name))), "it has printed something")
    harness.until(lambda: driver.inspect(job.name).phase is Phase.RUNNING, "it runs")
    harness.end(job.name)
    done = {action_of(request) for request, _ in simulator.server.exchanges} - {None}
    may = role.role(SUBSCRIPTION, GROUP, clusters=compute == "cluster")
    assert done | IMPLIED == actions(may)


def test_it_is_printed_as_azure_takes_it_and_the_readme_holds_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert role.main([SUBSCRIPTION, GROUP, "cluster"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert not [action for action in printed["Actions"] if "*" in action]
    shown = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    assert [json.loads(text) for text in shown] == [role.role(SUBSCRIPTION, GROUP, clusters=False)]
    assert role.main(["nonsense"]) == 2
