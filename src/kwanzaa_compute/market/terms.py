"""How each provider bills and how long its machines take to start: data with a source.

What is documented says so. What is an assumption says that too: nobody publishes boot times or
download rates, so these are placeholders that receipts are meant to replace.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Terms:
    """One provider's rhythm. Times in seconds, rates in megabytes a second and dollars.

    `queue_s` passes before billing begins; `boot_s`, `image_s` and `install_s` are billed.
    `slow_factor` multiplies all of them for a bad day. `after_s` is billed when our command has
    ended. `interruptions_per_h` is how often a spot machine is taken back. `usd_per_gb_out` is
    what data leaving the provider costs. `spot`, `unattended` and `custom_code` say what the
    provider can do at all.
    """

    queue_s: float
    boot_s: float
    image_s: float
    install_s: float
    download_mb_s: float
    slow_factor: float = 3.0
    after_s: float = 0.0
    interruptions_per_h: float = 0.0
    usd_per_gb_out: str = "0"
    lacks: frozenset[str] = frozenset()
    source: str = ""
    as_of: str = "2026-11-23"


_ASSUMED = "times and rates assumed"

TERMS: MappingProxyType[str, Terms] = MappingProxyType(
    {
        "local": Terms(
            0, 0, 0, 0, 20, source="this machine; the download rate of an ordinary line is assumed"
        ),
        "sim": Terms(0, 1, 0, 1, 1000, source="the simulated cloud"),
        "runpod": Terms(
            0,
            30,
            150,
            60,
            200,
            source=f"billed by the second from creation (documentation); {_ASSUMED}",
        ),
        "lambda": Terms(
            0,
            240,
            0,
            150,
            250,
            source=f"bills until terminated, also while booting (API description); {_ASSUMED}",
        ),
        "sagemaker": Terms(
            180,
            0,
            150,
            60,
            150,
            interruptions_per_h=0.5,
            usd_per_gb_out="0.09",
            source="billed from download to upload (API reference); interruptions: public traces of"
            f" V100 spot machines have one in 0.3 to 1.4 h in bad zones; {_ASSUMED}",
        ),
        "azureml": Terms(
            60,
            240,
            180,
            60,
            150,
            after_s=120,
            interruptions_per_h=0.15,
            usd_per_gb_out="0.087",
            source="a node bills while it is up, 120 s idle after the job (SDK default);"
            f" interruptions: Azure publishes bands of 0 to 20 % an hour, the middle; {_ASSUMED}",
        ),
        "hf-jobs": Terms(
            30,
            0,
            90,
            60,
            300,
            source=f"billed by the minute while starting and running (documentation); {_ASSUMED}",
        ),
        "hf-spaces": Terms(
            240,
            30,
            90,
            60,
            300,
            source=f"billed by the minute while starting and running, not building; {_ASSUMED}",
        ),
        "autotrain": Terms(
            300,
            30,
            180,
            120,
            300,
            lacks=frozenset({"custom-code"}),
            source=f"a Space of its own, and unmaintained since 2025; {_ASSUMED}",
        ),
        "colab": Terms(
            0,
            60,
            0,
            180,
            150,
            lacks=frozenset({"unattended"}),
            source=f"compute units, no dollar price; {_ASSUMED}",
        ),
    }
)

UNKNOWN = Terms(
    60,
    120,
    120,
    90,
    100,
    interruptions_per_h=0.5,
    source=f"a provider not in the table; {_ASSUMED}",
)
"""What is assumed of a provider that the table lacks: slower than all that it has."""


def terms_of(provider: str) -> Terms:
    """The terms of a provider; cautious ones where it is not in the table."""
    return TERMS.get(provider, UNKNOWN)
