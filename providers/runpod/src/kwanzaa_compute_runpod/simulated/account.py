"""What a simulated RunPod knows of its one customer: keys, money, volumes, and what it sells."""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from kwanzaa_compute.market.gpus import find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.testing.weather import Place
from kwanzaa_compute_runpod.replies import DISK_USD_PER_HOUR

SECURE, COMMUNITY = "secure", "community"
MIG_SLICE = "NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb"
DATA_CENTERS = ("US-KS-2", "EU-RO-1")


@dataclass(frozen=True, slots=True)
class Card:
    """A type of GPU in the catalogue; a price of zero: not sold in that cloud."""

    id: str
    name: str
    memory: int
    secure: str
    community: str
    pool: str | None = None
    manufacturer: str = "NVIDIA"
    cuda: str = "12.8"
    """The newest CUDA that a host of this type offers."""

    def usd(self, cloud: str) -> Decimal:
        """Dollars an hour in a cloud."""
        return Decimal(self.secure if cloud == SECURE else self.community)


CARDS: tuple[Card, ...] = (
    Card("NVIDIA GeForce RTX 4090", "RTX 4090", 24, "0.69", "0.34", "ADA_24"),
    Card("NVIDIA RTX A5000", "RTX A5000", 24, "0.27", "0.16", "AMPERE_24"),
    Card("NVIDIA L4", "L4", 24, "0.43", "0", "AMPERE_24"),
    Card("NVIDIA GeForce RTX 3090", "RTX 3090", 24, "0", "0.22"),
    Card("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, "1.64", "1.19", "AMPERE_80"),
    Card("NVIDIA H100 80GB HBM3", "H100 SXM", 80, "2.99", "2.69", "ADA_80_PRO"),
    Card("NVIDIA B200", "B200", 180, "5.98", "0", None, "NVIDIA", "13.0"),
    Card(MIG_SLICE, "RTX PRO 6000 MIG", 24, "0.5", "0"),
    Card("AMD Instinct MI300X OAM", "MI300X", 192, "2.99", "0", None, "AMD", ""),
)  # fmt: skip
"""A few of RunPod's types, at prices of the order of its own; nobody's quote."""


def places(capacity: Mapping[tuple[str, str], int] | None = None) -> list[Place]:
    """The catalogue as places of a simulated cloud; `capacity` by GPU id and cloud (rest: any)."""
    return [
        Place(_offer(card, cloud), capacity=(capacity or {}).get((card.id, cloud)))
        for card in CARDS
        for cloud in (SECURE, COMMUNITY)
        if card.usd(cloud) > 0
    ]


def _offer(card: Card, cloud: str) -> Offer:
    return Offer(
        provider="runpod",
        id=card.id,
        gpu=find_gpu(card.id, box_gb=card.memory) or unknown_gpu(card.id, card.memory),
        usd_per_hour=card.usd(cloud) + DISK_USD_PER_HOUR,
        region=cloud,
        availability=Availability.AVAILABLE,
        source="simulated",
        as_of="2026-01-01T00:00:00Z",
    )


@dataclass(slots=True)
class Account:
    """The customer. `key` may do everything; each machine gets a key that reaches only itself."""

    key: str = "simulated-account-key"
    balance_usd: Decimal = Decimal(100)
    volumes: dict[str, str] = field(default_factory=dict)
    """The data center of each network volume, by its id."""
    page_size: int = 1000
    """How many pods a page of the list holds."""
    denied: frozenset[str] = frozenset()
    """Types of GPU that this account may not have."""
    scoped_keys_work: bool = True
    """Whether machines' own keys are good for anything."""
    _scoped: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def key_of(self, machine_id: str) -> str:
        """The key that RunPod puts into a machine; the same after a restart."""
        with self._lock:
            for key, owner in self._scoped.items():
                if owner == machine_id:
                    return key
            key = f"simulated-pod-key-{secrets.token_hex(8)}"
            self._scoped[key] = machine_id
            return key

    def caller(self, key: str) -> str | None:
        """Who calls: "" is the customer, a machine's id that machine, None a stranger."""
        if secrets.compare_digest(key.encode(), self.key.encode()):
            return ""
        return self._scoped.get(key) if self.scoped_keys_work else None
