"""Azure ML command jobs, spot included. The root imports no SDK."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

FEATURES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.SPOT, Feature.LOGS})
"""What holds. Not SSH: nobody is let into a job. Not a role: machines get a signature instead."""

SETTLE_S = 90.0
"""A job is listed as soon as it is created, as far as anybody documents; the rest is doubt."""
BOOT_S = 2400.0
"""A machine is allocated and set up by Azure, then an image of several GB and our set-up come."""
STOP_RESERVE_S = 180.0
"""A job that is cancelled is given time to end, and its machine to be let go; both bill."""


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """The `azureml` provider."""
    return [
        ProviderInfo(
            name="azureml",
            title="Azure Machine Learning",
            driver=f"{__name__}.driver:AzureMLDriver",
            simulator=f"{__name__}.simulator:AzureMLSimulator",
            environment=("AZURE_SUBSCRIPTION_ID", "AZURE_CLIENT_SECRET"),
            console_url="https://ml.azure.com/experiments",
            store_schemes=("az",),
            settle_s=SETTLE_S,
            boot_s=BOOT_S,
            stop_reserve_s=STOP_RESERVE_S,
            # limits.timeout is part of every job.
            deadline=Deadline.BY_PROVIDER,
            features=FEATURES,
        )
    ]
