"""A self-contained Colab notebook for a run. The root imports no SDK."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl

FEATURES = frozenset({Feature.CUSTOM_CODE})


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """Colab: a person opens the notebook and starts it, so no plan ever picks it."""
    return [
        ProviderInfo(
            name="colab",
            title="Google Colab (a notebook that you start yourself)",
            driver=f"{__name__}.driver:ColabDriver",
            console_url="https://colab.research.google.com",
            # `file` is the owner's Drive.
            store_schemes=("file", "s3", "az", "hf"),
            deadline=Deadline.BY_PROVIDER,
            features=FEATURES,
            notebook=f"{__name__}.notebook:write_notebook",
        )
    ]
