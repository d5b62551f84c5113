"""The Python face: plan, train, and find your runs again."""

from kwanzaa_compute.compute.applying import Applied
from kwanzaa_compute.compute.compute import Compute, ForSale
from kwanzaa_compute.compute.machines import MachineChoice, MachineWish
from kwanzaa_compute.compute.planning import Options, Planned
from kwanzaa_compute.compute.receipt import Receipt, ReceiptLine
from kwanzaa_compute.compute.run import Run

__all__ = [
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
]
