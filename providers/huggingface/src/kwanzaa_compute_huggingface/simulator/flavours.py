"""What the simulated Hub rents out, in the Hub's own words. Prices as documented in August 2026."""

from kwanzaa_compute.testing.weather import Place
from kwanzaa_compute_huggingface.hardware import offers_of

Json = dict[str, object]


def _flavour(
    name: str, micro_usd: int, gpus: tuple[int, str, int] | None, cpu: str = "8 vCPU"
) -> Json:
    accelerator: Json | None = None
    if gpus is not None:
        count, model, each_gb = gpus
        accelerator = {
            "type": "gpu",
            "model": model,
            "quantity": str(count),
            "vram": f"{count * each_gb} GB",
            "manufacturer": "Nvidia",
        }
    return {
        "name": name,
        "prettyName": name.replace("-", " "),
        "cpu": cpu,
        "ram": "30 GB",
        "ephemeralStorage": "110 GB",
        "accelerator": accelerator,
        "unitCostMicroUSD": micro_usd,
        "unitCostUSD": micro_usd / 1_000_000,
        "unitLabel": "minute",
    }


SPACES: tuple[Json, ...] = (
    _flavour("cpu-basic", 0, None, "2 vCPU"),
    _flavour("t4-small", 6667, (1, "T4", 16), "4 vCPU"),
    _flavour("t4-medium", 10_000, (1, "T4", 16)),
    _flavour("l4x1", 13_333, (1, "L4", 24)),
    _flavour("l4x4", 63_333, (4, "L4", 24), "48 vCPU"),
    _flavour("l40sx1", 30_000, (1, "L40S", 48)),
    _flavour("a10g-small", 16_667, (1, "A10G", 24), "4 vCPU"),
    _flavour("a10g-large", 25_000, (1, "A10G", 24), "12 vCPU"),
    _flavour("a100-large", 41_667, (1, "A100", 80), "12 vCPU"),
    _flavour("rtx-pro-6000", 45_833, (1, "RTX PRO 6000", 96), "22 vCPU"),
)
JOBS: tuple[Json, ...] = (*SPACES, _flavour("h200", 83_333, (1, "H200", 141), "23 vCPU"))


def places() -> list[Place]:
    """One place a flavour with a GPU. The Hub never says that it is full: a job waits."""
    from huggingface_hub import JobHardwareInfo

    flavours = [JobHardwareInfo(**flavour) for flavour in JOBS]
    return [Place(offer) for offer in offers_of("hub", flavours, source="simulated", as_of="now")]
