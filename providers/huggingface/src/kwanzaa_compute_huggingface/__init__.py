"""Hugging Face Jobs, Spaces and AutoTrain. The root imports no SDK."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

STORES = ("hf", "s3", "gs", "az")
JOBS = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.LOGS})
SPACES = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.LOGS})
AUTOTRAIN = frozenset({Feature.UNATTENDED, Feature.LOGS})


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """Three ways to one account: jobs (the one to take), Spaces, and AutoTrain as it was left."""
    return [
        ProviderInfo(
            name="hf-jobs",
            title="Hugging Face Jobs",
            driver=f"{__name__}.jobs:JobsDriver",
            simulator=f"{__name__}.simulator:HubSimulator",
            environment=("HF_TOKEN",),
            console_url="https://huggingface.co/settings/jobs",
            store_schemes=STORES,
            settle_s=60.0,
            # A job may wait for hours without a word: this is the deadline of the queue as well.
            boot_s=1200.0,
            stop_reserve_s=60.0,
            deadline=Deadline.BY_PROVIDER,
            features=JOBS,
            publisher=f"{__name__}.publish:HubPublisher",
        ),
        ProviderInfo(
            name="hf-spaces",
            title="Hugging Face Spaces",
            driver=f"{__name__}.spaces:SpacesDriver",
            simulator=f"{__name__}.simulator:HubSimulator",
            environment=("HF_TOKEN",),
            console_url="https://huggingface.co/settings/billing",
            store_schemes=STORES,
            settle_s=120.0,
            boot_s=1800.0,
            stop_reserve_s=60.0,
            deadline=Deadline.BY_MACHINE,
            features=SPACES,
        ),
        ProviderInfo(
            name="autotrain",
            title="AutoTrain (deprecated: not maintained since January 2025)",
            driver=f"{__name__}.autotrain:AutoTrainDriver",
            simulator=f"{__name__}.simulator:HubSimulator",
            environment=("HF_TOKEN",),
            console_url="https://huggingface.co/settings/billing",
            store_schemes=STORES,
            settle_s=120.0,
            boot_s=1800.0,
            stop_reserve_s=60.0,
            deadline=Deadline.BY_MACHINE,
            features=AUTOTRAIN,
        ),
    ]
