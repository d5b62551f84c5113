"""How much electricity a run's GPUs took at most: an estimate, and said to be one. Pure."""

from collections.abc import Iterable, Mapping

BOARD_W: Mapping[str, float] = {
    "T4": 70,
    "V100-16GB": 300,
    "V100-32GB": 300,
    "RTX 3090": 350,
    "RTX A4000": 140,
    "RTX A5000": 230,
    "RTX A6000": 300,
    "A10": 150,
    "A10G": 300,
    "A30": 165,
    "A40": 300,
    "A100-40GB": 400,
    "A100-80GB": 400,
    "A100-80GB SXM": 400,
    "RTX 4090": 450,
    "RTX 6000 Ada": 300,
    "L4": 72,
    "L40": 300,
    "L40S": 350,
    "H100 PCIe": 350,
    "H100 SXM": 700,
    "H100 NVL": 400,
    "H200": 700,
    "B200": 1000,
    "RTX 5090": 575,
}
"""The power limit of one board in watts, by our name for it; the larger form where there are two
(SXM before PCIe). From the makers' data sheets."""

HOW = "the boards' power limit for every billed hour; hosts and cooling are not counted"


def most_kwh(used: Iterable[tuple[str, int, float]]) -> float | None:
    """Most kilowatt-hours that GPUs can have taken: (name, how many, hours) for each attempt.

    None where the limit of one of them is not known, or where nothing was used.
    """
    watts = [(BOARD_W.get(name), count * hours) for name, count, hours in used]
    if not watts or any(limit is None for limit, _ in watts):
        return None
    return sum(limit * hours for limit, hours in watts if limit is not None) / 1000
