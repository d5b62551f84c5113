"""Lambda Cloud machines over its REST API. The root imports no SDK and no HTTP library."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

FEATURES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.SSH})
"""No SPOT: it sells none. No LOGS: its API shows none."""


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """The provider `lambda`.

    A machine cannot end its own billing: to power it off stops nothing, and there is no key that
    could do less than everything. So only a watcher ends it.
    """
    return [
        ProviderInfo(
            name="lambda",
            title="Lambda Cloud",
            driver=f"{__name__}.driver:LambdaDriver",
            simulator=f"{__name__}.simulator:LambdaSimulator",
            environment=("LAMBDA_API_KEY",),
            console_url="https://cloud.lambda.ai/instances",
            store_schemes=("s3", "gs", "az"),
            settle_s=120.0,
            boot_s=1800.0,  # eight H100 have been seen to take 25 minutes
            stop_reserve_s=120.0,
            deadline=Deadline.BY_WATCHER,
            features=FEATURES,
        )
    ]
