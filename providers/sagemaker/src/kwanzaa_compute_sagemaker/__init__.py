"""SageMaker training jobs, managed spot included. The root imports no SDK."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

FEATURES = frozenset(
    {
        Feature.UNATTENDED,
        Feature.CUSTOM_CODE,
        Feature.SPOT,
        Feature.LOGS,
        Feature.STORE_ROLE,
    }
)
"""What holds. Not SSH: a training job lets nobody in."""

SETTLE_S = 60.0
"""A job is listed as soon as it is created, as far as anybody documents; a minute for doubt."""
BOOT_S = 1800.0
"""Waiting for an instance, which is not billed, then an image of several GB and our set-up."""
STOP_RESERVE_S = 180.0
"""A job that is stopped has two minutes until SIGKILL, and bills them."""


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """The `sagemaker` provider."""
    return [
        ProviderInfo(
            name="sagemaker",
            title="Amazon SageMaker",
            driver=f"{__name__}.driver:SageMakerDriver",
            simulator=f"{__name__}.simulator:SageMakerSimulator",
            environment=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "KWANZAA_SAGEMAKER_ROLE"),
            console_url="https://console.aws.amazon.com/sagemaker/home#/jobs",
            store_schemes=("s3",),
            settle_s=SETTLE_S,
            boot_s=BOOT_S,
            stop_reserve_s=STOP_RESERVE_S,
            # StoppingCondition is part of every job.
            deadline=Deadline.BY_PROVIDER,
            features=FEATURES,
        )
    ]
