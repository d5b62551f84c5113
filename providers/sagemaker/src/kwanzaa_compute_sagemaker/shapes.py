"""Training instances with GPUs, as EC2's `describe-instance-types` gives them in November 2026.

Memory is what EC2 says in MiB; an A10G and an L4 of "24 GB" have 22,888. Fractions of a GPU
(g6f) are left out, and so is what SageMaker does not train on. A test holds this against the
table of instances that comes with moto and the enumeration in botocore.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kwanzaa_compute.market.gpus import GPU, find_gpu, unknown_gpu


@dataclass(frozen=True, slots=True)
class Shape:
    """One instance type: its GPU by our name, how many, and each one's memory in MiB."""

    instance: str
    gpu_name: str
    count: int
    mib: int

    @property
    def gpu(self) -> GPU:
        """The card; one that the table of GPUs lacks is listed without figures."""
        return find_gpu(self.gpu_name) or unknown_gpu(self.gpu_name, self.mib / 1024)


_ONE = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
_G = {**dict.fromkeys(_ONE, 1), "12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_G7 = {
    "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 2, "24xlarge": 4, "48xlarge": 8,
}  # fmt: skip
_FAMILIES: Mapping[str, tuple[str, int, Mapping[str, int]]] = {
    "g4dn": ("T4", 16384, {**dict.fromkeys(_ONE, 1), "12xlarge": 4}),
    "g5": ("A10G", 22888, _G),
    "g6": ("L4", 22888, _G),
    "g6e": ("L40S", 45776, _G),
    "g7": ("RTX PRO 4500", 32768, _G7),
    "g7e": ("RTX PRO 6000", 98304, _G7),
    "p3": ("V100-16GB", 16384, {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8}),
    "p3dn": ("V100-32GB", 32768, {"24xlarge": 8}),
    "p4d": ("A100-40GB", 40960, {"24xlarge": 8}),
    "p4de": ("A100-80GB SXM", 81920, {"24xlarge": 8}),
    "p5": ("H100 SXM", 81920, {"4xlarge": 1, "48xlarge": 8}),
    "p5e": ("H200", 144384, {"48xlarge": 8}),
    "p5en": ("H200", 144384, {"48xlarge": 8}),
    "p6-b200": ("B200", 183359, {"48xlarge": 8}),
    "p6-b300": ("B300", 275040, {"48xlarge": 8}),
}


def _all() -> Iterator[Shape]:
    for family, (name, mib, sizes) in _FAMILIES.items():
        for size, count in sizes.items():
            yield Shape(f"ml.{family}.{size}", name, count, mib)


SHAPES: Mapping[str, Shape] = MappingProxyType({shape.instance: shape for shape in _all()})
"""Every shape by its instance type."""
