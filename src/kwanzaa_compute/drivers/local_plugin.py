"""This very machine, as a provider like any other."""

from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.drivers.plugins import hookimpl


@hookimpl
def kwanzaa_providers() -> list[ProviderInfo]:
    """The `local` provider: a subprocess, no account, no money."""
    return [
        ProviderInfo(
            name="local",
            title="This machine",
            driver="kwanzaa_compute.drivers.local:LocalDriver",
            store_schemes=("file", "s3", "gs", "az"),
            settle_s=0.0,
            boot_s=600.0,
            stop_reserve_s=30.0,
            deadline=Deadline.BY_MACHINE,
            features=frozenset(
                {Feature.UNATTENDED, Feature.CUSTOM_CODE, Feature.LOGS, Feature.SHARES_FILES}
            ),
        )
    ]
