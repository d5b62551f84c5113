"""A training.yaml and a dollar cap in; a trained QLoRA adapter out, and nothing left billing.

    from decimal import Decimal
    import kwanzaa_compute as kc

    compute = kc.Compute()
    run = compute.train("training.yaml", kc.Options(max_usd=Decimal(5)))
    receipt = run.wait()
    adapter = run.download()

Names are loaded when they are first used, so that the import itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kwanzaa_compute.compute import (
        Applied,
        Compute,
        ForSale,
        MachineChoice,
        MachineWish,
        Options,
        Planned,
        Receipt,
        ReceiptLine,
        Run,
        Sweep,
    )
    from kwanzaa_compute.config import LoadedConfig, TrainingConfig, load, load_config
    from kwanzaa_compute.drivers.plugins import hookimpl
    from kwanzaa_compute.errors import (
        BudgetError,
        CapacityError,
        CheckpointError,
        ConfigError,
        CredentialsError,
        DataError,
        InvalidRequestError,
        KwanzaaError,
        LeaseLostError,
        MayBeBillingError,
        NothingFitsError,
        ProviderError,
        QuotaError,
        RunError,
        StoreError,
        TransientError,
        UsageError,
    )
    from kwanzaa_compute.runs.records import RunState
    from kwanzaa_compute.runs.step import Step

__version__ = "0.1.0"

_HOMES = {
    "compute": (
        "Applied",
        "Compute",
        "ForSale",
        "MachineChoice",
        "MachineWish",
        "Options",
        "Planned",
        "Receipt",
        "ReceiptLine",
        "Run",
        "Sweep",
    ),
    "config": ("LoadedConfig", "TrainingConfig", "load", "load_config"),
    "drivers.plugins": ("hookimpl",),
    "errors": (
        "BudgetError",
        "CapacityError",
        "CheckpointError",
        "ConfigError",
        "CredentialsError",
        "DataError",
        "InvalidRequestError",
        "KwanzaaError",
        "LeaseLostError",
        "MayBeBillingError",
        "NothingFitsError",
        "ProviderError",
        "QuotaError",
        "RunError",
        "StoreError",
        "TransientError",
        "UsageError",
    ),
    "runs.records": ("RunState",),
    "runs.step": ("Step",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Applied",
    "BudgetError",
    "CapacityError",
    "CheckpointError",
    "Compute",
    "ConfigError",
    "CredentialsError",
    "DataError",
    "ForSale",
    "InvalidRequestError",
    "KwanzaaError",
    "LeaseLostError",
    "LoadedConfig",
    "MachineChoice",
    "MachineWish",
    "MayBeBillingError",
    "NothingFitsError",
    "Options",
    "Planned",
    "ProviderError",
    "QuotaError",
    "Receipt",
    "ReceiptLine",
    "Run",
    "RunError",
    "RunState",
    "Step",
    "StoreError",
    "Sweep",
    "TrainingConfig",
    "TransientError",
    "UsageError",
    "__version__",
    "hookimpl",
    "load",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
