"""Azure's virtual machines with NVIDIA GPUs, as its documentation of sizes gives them in 2026.

Their number, kind and memory of cards; what a card reports of that memory is `market.gpus`'
affair. The first sizes of the A10 series have a *part* of one card, though Azure's tables list
"1 GPU": a sixth, a third, a half, and as much of its memory and, at the worst, of its speed. V100
and T4 have no bfloat16. An H100 of the NC series is the NVL kind with 94 GB, which some price
lists call 80.

Left out: confidential machines (NCC), Arm hosts (GB200), cards that are not NVIDIA's, and the
retired K80, P100 and M60. The NCv3 series (V100) is said to have been retired in 2025; it is for
sale here where Azure still quotes a price for it. Whether Azure ML takes the A10 series, which
needs a driver of its own, has not been tried; a size that it refuses makes room for the next offer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from kwanzaa_compute.market.gpus import GPU, find_gpu, unknown_gpu

WHOLE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """One size of machine: its GPU by our name, how many, and which part of each."""

    size: str
    gpu_name: str
    count: int
    share: Fraction = WHOLE

    @property
    def gpu(self) -> GPU:
        """The card, or the part of one; one that the table of GPUs lacks is without figures."""
        card = find_gpu(self.gpu_name) or unknown_gpu(self.gpu_name)
        return card if self.share == WHOLE else part_of(card, self.share)


def part_of(card: GPU, share: Fraction) -> GPU:
    """A virtual GPU with its share of a card's memory and speed.

    Its name does not begin with the card's: who asks for an "A10" means a whole one.
    """
    part = float(share)
    return replace(
        card,
        name=f"{share} of an {card.name}",
        aliases=(),
        vram_gib=round(card.vram_gib * part, 2),
        tflops_bf16=card.tflops_bf16 * part,
        tflops_fp16=card.tflops_fp16 * part,
        bandwidth_tb_s=card.bandwidth_tb_s * part,
        source=f"{card.source}; {share} of the card",
    )


_WHOLE_CARDS: Mapping[str, Mapping[str, int]] = {
    "T4": {
        "NC4as_T4_v3": 1,
        "NC8as_T4_v3": 1,
        "NC16as_T4_v3": 1,
        "NC64as_T4_v3": 4,
    },
    "V100-16GB": {"NC6s_v3": 1, "NC12s_v3": 2, "NC24s_v3": 4, "NC24rs_v3": 4},
    "V100-32GB": {"ND40rs_v2": 8},
    "A10": {"NV36ads_A10_v5": 1, "NV36adms_A10_v5": 1, "NV72ads_A10_v5": 2},
    "A100-80GB": {"NC24ads_A100_v4": 1, "NC48ads_A100_v4": 2, "NC96ads_A100_v4": 4},
    "A100-40GB": {"ND96asr_v4": 8},
    "A100-80GB SXM": {"ND96amsr_A100_v4": 8},
    "H100 NVL": {"NC40ads_H100_v5": 1, "NC80adis_H100_v5": 2},
    "H100 SXM": {"ND96isr_H100_v5": 8},
    "H200": {"ND96isr_H200_v5": 8},
}
_PARTS: Mapping[str, Fraction] = {
    "NV6ads_A10_v5": Fraction(1, 6),
    "NV12ads_A10_v5": Fraction(1, 3),
    "NV18ads_A10_v5": Fraction(1, 2),
}


def _all() -> Iterator[Shape]:
    for gpu_name, sizes in _WHOLE_CARDS.items():
        for size, count in sizes.items():
            yield Shape(f"Standard_{size}", gpu_name, count)
    for size, share in _PARTS.items():
        yield Shape(f"Standard_{size}", "A10", 1, share)


SHAPES: Mapping[str, Shape] = MappingProxyType({shape.size: shape for shape in _all()})
"""Every shape by its size."""
