"""What the simulated Lambda sells: shapes and prices as its price list of May 2026 has them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.testing.weather import Place
from kwanzaa_compute_lambda_cloud.replies import BILLING_STEP_S, gpu_of

REGIONS = {
    "us-east-1": "Virginia, USA",
    "us-west-1": "California, USA",
    "us-south-1": "Texas, USA",
    "europe-central-1": "Germany",
}


@dataclass(frozen=True, slots=True)
class Ware:
    """One machine shape and where it is sold."""

    name: str
    gpu: str
    gpus: int
    cents: int
    vcpus: int
    memory_gib: int
    storage_gib: int
    regions: tuple[str, ...]

    def shape(self) -> dict[str, Any]:
        """As an answer describes it."""
        return {
            "name": self.name,
            "description": f"{self.gpus}x {self.gpu}",
            "gpu_description": self.gpu,
            "price_cents_per_hour": self.cents,
            "specs": {
                "vcpus": self.vcpus,
                "memory_gib": self.memory_gib,
                "storage_gib": self.storage_gib,
                "gpus": self.gpus,
            },
        }

    def places(self) -> list[Place]:
        """As the model under the simulator has it: one place a region."""
        return [
            Place(
                Offer(
                    provider="lambda",
                    id=self.name,
                    gpu=gpu_of(self.gpu),
                    gpu_count=self.gpus,
                    usd_per_hour=Decimal(self.cents) / 100,
                    region=region,
                    billing_step_s=BILLING_STEP_S,
                )
            )
            for region in self.regions
        ]


WARES = (
    Ware("gpu_1x_a10", "A10 (24 GB PCIe)", 1, 129, 30, 200, 1400, ("us-east-1", "us-west-1")),
    Ware("gpu_1x_a6000", "A6000 (48 GB)", 1, 109, 14, 100, 200, ("us-south-1",)),
    Ware("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", 1, 199, 30, 200, 512, ("us-east-1",)),
    Ware("gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", 8, 2232, 240, 1800, 19968, ("us-west-1",)),
    Ware("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", 1, 329, 26, 200, 1024, ("us-east-1",)),
    Ware("gpu_1x_gh200", "GH200 (96 GB)", 1, 229, 64, 432, 4096, ("us-east-1",)),
    Ware("gpu_1x_b200_sxm6", "B200 (180 GB SXM6)", 1, 699, 26, 360, 2816, ()),
)
