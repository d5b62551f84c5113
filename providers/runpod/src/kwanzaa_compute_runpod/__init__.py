"""RunPod machines over REST v2. The root imports no HTTP library."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

FEATURES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.LOGS, Feature.SSH})
"""What holds. Not SPOT: REST v2 has no such machines."""

SETTLE_S = 120.0
"""Nobody documents how soon a new machine is listed, and a create may answer with a server error
and come true all the same. Two minutes: more than twice the longest call."""
BOOT_S = 1500.0
"""The image is several GB, pulled while the machine bills: others wait up to 20 minutes for that.
Five more are for our own set-up."""
STOP_RESERVE_S = 120.0
"""The longest pause of a machine that ends itself, and then the deletion."""


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """The `runpod` provider."""
    return [
        ProviderInfo(
            name="runpod",
            title="RunPod",
            driver=f"{__name__}.driver:RunPodDriver",
            simulator=f"{__name__}.simulator:RunPodSimulator",
            environment=("RUNPOD_API_KEY",),
            console_url="https://console.runpod.io/pods",
            store_schemes=("s3", "gs", "az"),
            settle_s=SETTLE_S,
            boot_s=BOOT_S,
            stop_reserve_s=STOP_RESERVE_S,
            # A key that RunPod puts into each machine, and that reaches no other, ends it.
            deadline=Deadline.BY_MACHINE,
            features=FEATURES,
        )
    ]
